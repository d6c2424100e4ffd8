"""A model that uses tools: two of your own, and one that is a person.

homing up &                     # or your own server in HOMING_BASE_URL
python examples/tools.py
"""

from datetime import datetime, timezone

from homing import Client, ToolError

PRICES = {"Lisbon": 120, "Oslo": 180}


def get_price(city: str) -> int:
    """Look up what a night in a hotel costs, in euros.

    Args:
        city: The city's name.
    """
    if city not in PRICES:
        raise ToolError(f"no prices for {city}; there are some for {', '.join(PRICES)}")
    return PRICES[city]


def get_date() -> str:
    """Tell today's date."""
    return datetime.now(timezone.utc).date().isoformat()


APPROVE = {
    "type": "function",
    "function": {
        "name": "ask_for_approval",
        "description": "Ask the user before anything is booked.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}, "required": ["what"]},
    },
}

client = Client()
chat = client.conversation(system="You book hotels.", tools=[get_price, get_date, APPROVE])

with chat.run_stream("What is a night in Oslo? Use get_price and get_date.") as run:
    for event in run:
        if event.type == "content.delta":
            print(event.delta, end="", flush=True)
        elif event.type == "tool.started":
            print(f"[{event.name} {event.arguments}]")
        elif event.type in ("tool.finished", "tool.failed"):
            print(f"[{event.name} -> {event.content}]")
print()

reply = chat.run("Book it. Use ask_for_approval.")
while reply.pending:
    for call in reply.pending:
        print(f"approved: {call.function.name} {call.function.arguments}")
    reply = chat.submit({call.id: "Approved." for call in reply.pending})
print(reply.text)
print(f"{len(chat.turns)} turns, {chat.totals.replies} requests, {reply.telemetry.verdict}")
client.close()
