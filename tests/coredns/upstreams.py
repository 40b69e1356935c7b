"""DNS servers that do what a test wants, for forward to ask."""

import asyncio
import contextlib

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

PORT = 5353


class FakeServer:
    """Answers UDP and TCP at an address of its own, and remembers what it was asked."""

    def __init__(self, address):
        self.address = address
        self.asked = []
        """(protocol, name, type) of each query."""
        self.connections = 0
        self.rcode = dns.rcode.NOERROR
        self.truncated = False
        self.silent = asyncio.Event()
        self.hold = None
        self.forge = None
        self._closers = []
        self._tasks = set()

    @property
    def questions(self):
        return [name for _, name, _ in self.asked]

    async def start(self):
        loop = asyncio.get_running_loop()
        server = self

        class Udp(asyncio.DatagramProtocol):
            def connection_made(self, transport):
                self.transport = transport

            def datagram_received(self, packet, client):
                task = loop.create_task(self.reply(packet, client))
                server._tasks.add(task)
                task.add_done_callback(server._tasks.discard)

            async def reply(self, packet, client):
                for message in await server.replies(packet, "udp"):
                    self.transport.sendto(message, client)

        transport, _ = await loop.create_datagram_endpoint(Udp, local_addr=(self.address, PORT))
        tcp = await asyncio.start_server(self._serve, self.address, PORT)
        self._closers = [transport.close, tcp.close]

    def close(self):
        for close in self._closers:
            close()

    async def replies(self, packet, protocol):
        query = dns.message.from_wire(packet)
        question = query.question[0]
        self.asked.append((protocol, question.name.to_text(), question.rdtype))
        if self.hold is not None:
            await self.hold.wait()
        if self.silent.is_set():
            return []
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        reply.set_rcode(self.rcode)
        if self.truncated and protocol == "udp":
            reply.flags |= dns.flags.TC
        elif self.rcode == dns.rcode.NOERROR:
            reply.answer.append(
                dns.rrset.from_text(question.name, 60, "IN", "TXT", f'"{self.address} {protocol}"')
            )
        return [*(self.forge(query) if self.forge else ()), reply.to_wire()]

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
                for message in await self.replies(packet, "tcp"):
                    writer.write(len(message).to_bytes(2) + message)
        writer.close()
