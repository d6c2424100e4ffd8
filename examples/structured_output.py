"""Answers as pydantic models.

homing up &                     # or your own server in HOMING_BASE_URL
python examples/structured_output.py
"""

from typing import Literal

from pydantic import BaseModel, Field

from homing import Client, LengthFinishReasonError


class Review(BaseModel):
    product: str
    mood: Literal["good", "mixed", "bad"]
    stars: int = Field(ge=1, le=5)
    complaints: list[str]


client = Client()
chat = client.conversation(system="You read reviews.")

reply = chat.parse("'The lamp is bright, but it hums.' Sort this review.", Review, repair=1)
print(f"{reply.parsed.stars} stars, {reply.parsed.mood}, {len(reply.parsed.complaints)} complaints")

try:
    chat.parse("The same for the next one.", Review, max_tokens=4)
except LengthFinishReasonError as error:
    print(f"cut: {error.partial_text!r}")
print(f"{len(chat.turns)} turn, {reply.telemetry.verdict}")
client.close()
