"""The chatbot's backend: a FastAPI program. Run it with `make chatbot`, or

    HOMING_BASE_URL=https://… uvicorn chatbot.app:make_app --factory --app-dir examples --workers 4

Nobody logs in. Whoever opens the page gets a cookie that scripts cannot read, and sees what was said under
it and nothing else: any other id, known or guessed, is 404.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from homing import (
    AsyncClient,
    AsyncConversation,
    ConfigurationError,
    ConversationBusy,
    HomingError,
    StoreError,
    Turn,
    VersionConflict,
)
from homing.integrations.fastapi import EventStreamResponse, done_frame, failed_frame

from .doors import Doors
from .storage import Shelf, open_store, owner_of
from .underway import Underway

STATIC = Path(__file__).parent / "static"
SYSTEM = os.environ.get("CHATBOT_SYSTEM", "You are a helpful assistant. You answer in Markdown.")
COOKIE = "chatbot_owner"
A_YEAR = 365 * 86400
TITLE_LENGTH = 60
MAX_MESSAGE = 32_000
"""Characters of one message: some eight thousand tokens. A prompt's real limit is the model's context."""

STATUSES: dict[type[HomingError], int] = {
    ConversationBusy: 409,
    VersionConflict: 409,
    ConfigurationError: 422,
    StoreError: 503,
}


def make_app(place: str | None = None, base_url: str | None = None) -> FastAPI:
    """Return the program, by default with the store that CHATBOT_STORE names and the server of HOMING_BASE_URL."""
    where = place or os.environ.get("CHATBOT_STORE", "chatbot.db")

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        """One client and one store for each worker, and the tasks that replies run in."""
        async with (
            open_store(where) as store,
            AsyncClient(base_url) as client,
            anyio.create_task_group() as tasks,
        ):
            app.state.store, app.state.client = store, client
            app.state.underway = Underway(store, tasks)
            yield
            tasks.cancel_scope.cancel()  # replies under way are kept as far as they have come

    app = FastAPI(lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Doors)
    app.add_exception_handler(HomingError, refuse)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


router = APIRouter()


class Said(BaseModel):
    """What a person says; with ``at``, in place of that turn and all after it."""

    content: Annotated[str, Field(min_length=1, max_length=MAX_MESSAGE)]
    at: Annotated[int, Field(ge=0)] | None = None


class Point(BaseModel):
    """A fork holds so many turns."""

    turns: Annotated[int, Field(ge=1)]


def cookie_name(request: Request) -> str:
    """Return what the cookie is called. Browsers take ``__Host-`` only from this very host and over https, so
    that nobody, on a neighbouring subdomain or on the line, can plant a cookie whose value they know."""
    return f"__Host-{COOKIE}" if request.url.scheme == "https" else COOKIE


def cookie_of(request: Request) -> str | None:
    """Return the cookie if it can be one of ours."""
    value = request.cookies.get(cookie_name(request), "")
    return value if re.fullmatch(r"[A-Za-z0-9_-]{43}", value) else None


async def owner(request: Request) -> str:
    """Return who asks."""
    cookie = cookie_of(request)
    if cookie is None:
        raise HTTPException(401, "Open the page first: it brings the cookie.")
    return owner_of(cookie)


Owner = Annotated[str, Depends(owner)]


async def find(id: str, request: Request, owner: Owner) -> AsyncConversation:  # noqa: A002
    """Return the conversation of that id as the store has it, if it is this owner's.

    For looking at: it has no store of its own, so it does not wait for a turn under way, as `reload` would.
    """
    state = request.app.state
    # Other records have a colon in their names.
    record = await state.store.load(id) if re.fullmatch(r"[\w-]{1,64}", id) else None
    if record is None or record.header["metadata"].get("owner") != owner:
        raise HTTPException(404, "There is no such conversation.")
    return AsyncConversation.from_dict(state.client, {**record.header, "id": id, "turns": record.turns})


Chat = Annotated[AsyncConversation, Depends(find)]


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Say what went wrong, and nothing of how it looks inside."""
    status = next((code for kind, code in STATUSES.items() if isinstance(error, kind)), 502)
    return JSONResponse({"error": failed_frame(error).data}, status)


@router.get("/")
async def page(request: Request) -> Response:
    """The page. The first visit brings the cookie."""
    response = FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})
    if cookie_of(request) is None:
        response.headers["cache-control"] = "no-store"  # a cache would give the next visitor the same cookie
        response.set_cookie(
            cookie_name(request),
            secrets.token_urlsafe(32),
            max_age=A_YEAR,
            httponly=True,
            samesite="lax",  # "strict" would lose the owner behind each link from elsewhere
            secure=request.url.scheme == "https",
        )
    return response


@router.get("/api/conversations")
async def conversations(request: Request, owner: Owner) -> list[dict[str, Any]]:
    """The owner's list, newest first."""
    return await Shelf(request.app.state.store, owner).entries()


@router.post("/api/conversations", status_code=201)
async def create(said: Said, request: Request, owner: Owner) -> dict[str, str]:
    """Begin a conversation with its first turn."""
    state = request.app.state
    title = " ".join(said.content.split())[:TITLE_LENGTH]
    new = state.client.conversation(
        secrets.token_urlsafe(16), system=SYSTEM, store=state.store, metadata={"owner": owner, "title": title}
    )
    await new.save()
    await Shelf(state.store, owner).add(new.id, title)
    return {"id": new.id, "reply": await begin(request, new.id, said)}


@router.get("/api/conversations/{id}")
async def show(chat: Chat, request: Request, owner: Owner) -> dict[str, Any]:
    """What was said, and the reply under way or failed, if there is one."""
    latest = await request.app.state.underway.look(chat.id)
    if latest is not None and not latest.running:
        chat = await find(chat.id, request, owner)  # it may have ended since
        latest = latest if latest.error is not None else None
    return {
        "id": chat.id,
        "title": chat.metadata["title"],
        "turns": [view(turn) for turn in chat.turns],
        "latest": None
        if latest is None
        else {
            "reply": latest.name,
            "running": latest.running,
            "asked": latest.asked,
            "text": latest.text,
            "error": latest.error,
        },
    }


@router.delete("/api/conversations/{id}", status_code=204)
async def delete(chat: Chat, request: Request, owner: Owner) -> None:
    """Delete it, and stop what runs in it."""
    state = request.app.state
    await state.underway.forget(chat.id)
    await Shelf(state.store, owner).remove(chat.id)
    await state.store.delete(chat.id)


@router.post("/api/conversations/{id}/turns", status_code=202)
async def turn(said: Said, chat: Chat, request: Request) -> dict[str, str]:
    """Say something, or something else in place of a turn."""
    if said.at is not None and said.at >= len(chat.turns):
        raise HTTPException(409, "There is no such turn (any more).")
    return {"reply": await begin(request, chat.id, said)}


@router.post("/api/conversations/{id}/regenerate", status_code=202)
async def regenerate(chat: Chat, request: Request) -> dict[str, str]:
    """Ask again for the last reply."""
    if not chat.turns:
        raise HTTPException(409, "There is no reply yet.")
    last = Said(content=chat.turns[-1].messages[0]["content"], at=len(chat.turns) - 1)
    return {"reply": await begin(request, chat.id, last, again=True)}


@router.post("/api/conversations/{id}/stop", status_code=202)
async def stop(chat: Chat, request: Request) -> None:
    """Stop the reply under way; what has come is kept."""
    await request.app.state.underway.stop(chat.id)


@router.post("/api/conversations/{id}/fork", status_code=201)
async def fork(point: Point, chat: Chat, request: Request, owner: Owner) -> dict[str, str]:
    """Go another way from a turn: same replica, same cache."""
    state = request.app.state
    title = f"{chat.metadata['title']} (fork)"[:TITLE_LENGTH]
    data = chat.to_dict()
    data |= {
        "id": secrets.token_urlsafe(16),
        "turns": data["turns"][: point.turns],
        "metadata": {"owner": owner, "title": title},
    }
    copy = AsyncConversation.from_dict(state.client, data, store=state.store)
    await copy.save()
    await Shelf(state.store, owner).add(copy.id, title)
    return {"id": copy.id}


@router.get("/api/conversations/{id}/replies/{name}")
async def events(
    name: str, chat: Chat, request: Request, last_event_id: Annotated[str | None, Header()] = None
) -> Response:
    """The events of a reply, under way or just over, in whichever worker."""
    latest = await request.app.state.underway.look(chat.id)
    if latest is None or latest.name != name:
        return Response(status_code=204)  # an EventSource takes it for: don't come back
    return EventStreamResponse(request.app.state.underway.follow(chat.id, name, last_event_id))


async def begin(request: Request, conversation: str, said: Said, *, again: bool = False) -> str:
    """Begin a turn: the conversation is read again once no other worker can begin one."""
    state = request.app.state

    async def ask() -> Any:
        chat = await state.client.load_conversation(conversation, store=state.store)
        if again:
            return chat.stream_regenerate()
        if said.at is None:
            return chat.stream(said.content)
        return chat.stream_edit(said.at, said.content)

    name: str = await state.underway.begin(conversation, said.model_dump(), ask)
    return name


def view(turn: Turn) -> dict[str, Any]:
    """A turn as the page shows it."""
    asked, reply = turn.messages[0], turn.messages[-1]
    return {
        "content": asked["content"],
        "text": reply.get("content") or "",
        "reasoning": reply.get("reasoning_content") or "",
        **done_frame(turn.finish_reason, turn.telemetry).data,
    }
