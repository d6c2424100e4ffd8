"""Modal's control plane on a loopback port, as far as a deploy, a run and a container need it.

The table of calls is read from the service descriptor inside the installed `modal` wheel, so
the same file serves every version of modal: each call is recorded, and answered with an empty
message of the declared type unless a method below fills it in.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpclib.const
import grpclib.server
from google.protobuf import message_factory
from modal_proto import api_pb2

# Protobuf messages have no useful static types here: the fields depend on modal's version.
Message = Any

SERVICE = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
EDGE = "https://workspace--{app}-{name}.us-east.modal.direct"


def has(message: Message, field: str) -> bool:
    return field in message.DESCRIPTOR.fields_by_name


class ControlPlane:
    """`calls` holds (name, request) in order of arrival, `first` when each name came first, by the
    machine's monotonic clock. `edge` is what URLs look like; empty, there are none.

    Calls named in `refusing` are denied.
    """

    def __init__(self, *, edge: str = EDGE) -> None:
        self.edge = edge
        self.calls: list[tuple[str, Message]] = []
        self.first: dict[str, float] = {}
        self.missing_secrets = False
        self.refusing: set[str] = set()
        self.app_name = ""
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        self._numbers: dict[str, int] = defaultdict(int)
        self.volumes: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._specs: dict[str, Message] = {}
        self._urls: dict[str, str] = {}

    def requests(self, call: str) -> list[Message]:
        return [request for name, request in list(self.calls) if name == call]

    def wait_for(self, call: str, *, timeout: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: bool(self.requests(call)), timeout)

    def _id(self, prefix: str) -> str:
        self._numbers[prefix] += 1
        return f"{prefix}-{self._numbers[prefix]:022d}"

    # The calls that a deploy cannot do without.

    def AppCreate(self, request: Message, reply: Message) -> None:
        reply.app_id = self._id("ap")
        self.app_name = request.description

    def AppGetByDeploymentName(self, request: Message, reply: Message) -> None:
        if self.requests("AppPublish") and request.name == self.app_name:
            reply.app_id = self.requests("AppPublish")[-1].app_id

    def AppPublish(self, request: Message, reply: Message) -> None:
        reply.url = "http://127.0.0.1/app"
        if has(reply, "deployed_at"):
            reply.deployed_at = 1.0

    async def AppGetLogs(self, request: Message) -> AsyncIterator[Message]:
        """Stay open until the client has said goodbye, as the real one does."""
        goodbye = lambda: self.wait_for("AppClientDisconnect", timeout=30)  # noqa: E731
        await asyncio.get_running_loop().run_in_executor(None, goodbye)
        yield api_pb2.TaskLogsBatch(app_done=True)

    def EnvironmentGetOrCreate(self, request: Message, reply: Message) -> None:
        reply.environment_id = self._id("en")
        reply.metadata.name = request.deployment_name or "main"
        reply.metadata.settings.image_builder_version = "2025.06"

    def MountGetOrCreate(self, request: Message, reply: Message) -> None:
        reply.mount_id = self._id("mo")
        reply.handle_metadata.content_checksum_sha256_hex = "0" * 64

    def MountPutFile(self, request: Message, reply: Message) -> None:
        reply.exists = True

    def VolumeGetOrCreate(self, request: Message, reply: Message) -> None:
        reply.volume_id = self._id("vo")
        self.volumes[reply.volume_id] = request.deployment_name
        if has(reply, "metadata"):
            reply.metadata.name = request.deployment_name

    def SecretGetOrCreate(self, request: Message, reply: Message) -> None:
        if self.missing_secrets and request.deployment_name:
            raise grpclib.GRPCError(grpclib.const.Status.NOT_FOUND, f"Secret '{request.deployment_name}' not found")
        reply.secret_id = self._id("st")

    def ImageGetOrCreate(self, request: Message, reply: Message) -> None:
        reply.image_id = self._id("im")
        reply.result.status = api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
        reply.metadata.image_builder_version = "2025.06"
        reply.metadata.python_version_info = "Python 3.12.11"

    def FunctionPrecreate(self, request: Message, reply: Message) -> None:
        reply.function_id = request.existing_function_id or self._id("fu")
        self._tags[reply.function_id] = request.function_name
        reply.handle_metadata.function_name = request.function_name

    def FunctionCreate(self, request: Message, reply: Message) -> None:
        reply.function_id = request.existing_function_id or self._id("fu")
        single = request.HasField("function")
        spec = request.function if single else request.function_data
        reply.function.CopyFrom(request.function)
        if has(reply, "function_data"):  # read back since modal 1.6
            reply.function_data.CopyFrom(request.function_data)
            if single:
                reply.function_data.ranked_functions.add(rank=0).function.CopyFrom(request.function)
        reply.handle_metadata.function_name = spec.function_name
        reply.handle_metadata.function_type = spec.function_type
        self._tags[reply.function_id] = spec.function_name
        self._specs[reply.function_id] = request.function
        if spec.HasField("http_config") and self.edge:
            url = self.edge.format(app=self.app_name, name=spec.function_name.split(".")[0].lower())
            self._urls[reply.function_id] = url
            reply.function.flash_service_urls.append(url)
            reply.handle_metadata._experimental_flash_urls.append(url)

    def ClassCreate(self, request: Message, reply: Message) -> None:
        reply.class_id = self._id("cs")

    def FunctionGet(self, request: Message, reply: Message) -> None:
        for function_id, tag in self._tags.items():
            if tag == request.object_tag:
                reply.function_id = function_id
                reply.handle_metadata.function_name = tag
                if has(reply, "function") and function_id in self._specs:
                    reply.function.ranked_functions.add(rank=0).function.CopyFrom(self._specs[function_id])
                if function_id in self._urls:
                    reply.handle_metadata._experimental_flash_urls.append(self._urls[function_id])
                return
        raise grpclib.GRPCError(grpclib.const.Status.NOT_FOUND, f"no function {request.object_tag!r}")

    def ClassGet(self, request: Message, reply: Message) -> None:
        reply.class_id = self._id("cs")

    # The calls of a container.

    def TunnelStart(self, request: Message, reply: Message) -> None:
        reply.host, reply.port = "tunnel.modal.invalid", 443

    def FlashContainerRegister(self, request: Message, reply: Message) -> None:
        reply.url = "https://container.us-east.modal.direct"

    async def FunctionGetInputs(self, request: Message, reply: Message) -> None:
        """A container behind an http_server never gets an input, only the order to end."""
        if await asyncio.get_running_loop().run_in_executor(None, self.stopping.wait, 1.0):
            reply.inputs.add(kill_switch=True)

    # Transport.

    def _handler(self, method: Message) -> Callable[[Any], Awaitable[None]]:
        reply_class = message_factory.GetMessageClass(method.output_type)
        answer = getattr(self, method.name, None)

        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            with self.changed:
                self.calls.append((method.name, request))
                self.first.setdefault(method.name, time.monotonic())
                self.changed.notify_all()
            if method.name in self.refusing:
                raise grpclib.GRPCError(grpclib.const.Status.PERMISSION_DENIED, f"{method.name} is not for you")
            if method.server_streaming:
                if answer is not None:
                    async for item in answer(request):
                        await stream.send_message(item)
                return
            reply = reply_class()
            if answer is not None and inspect.isawaitable(waited := answer(request, reply)):
                await waited
            await stream.send_message(reply)

        return handle

    def __mapping__(self) -> dict[str, grpclib.const.Handler]:
        return {
            f"/{SERVICE.full_name}/{method.name}": grpclib.const.Handler(
                self._handler(method),
                _CARDINALITY[method.client_streaming, method.server_streaming],
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
            for method in SERVICE.methods
        }


_CARDINALITY = {
    (False, False): grpclib.const.Cardinality.UNARY_UNARY,
    (False, True): grpclib.const.Cardinality.UNARY_STREAM,
    (True, False): grpclib.const.Cardinality.STREAM_UNARY,
    (True, True): grpclib.const.Cardinality.STREAM_STREAM,
}


@contextmanager
def serving(plane: ControlPlane) -> Iterator[str]:
    """Serve a control plane from a thread of its own; yields its URL."""
    ready, stop = threading.Event(), asyncio.Event()
    port: list[int] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def main() -> None:
        server, protocols = grpclib.server.Server([plane]), []
        make = server._protocol_factory

        def remembered() -> Any:
            protocols.append(make())
            return protocols[-1]

        server._protocol_factory = remembered  # type: ignore[method-assign]
        await server.start("127.0.0.1", 0)
        listening: Any = server._server
        port.append(listening.sockets[0].getsockname()[1])
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        server.close()
        for protocol in protocols:  # a client that is killed does not say goodbye
            protocol.connection.close()
        await server.wait_closed()
        await asyncio.sleep(0)  # transports close in the loop's next turn

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        plane.stopping.set()
        with plane.changed:
            plane.changed.notify_all()
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)
