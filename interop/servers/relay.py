"""Relays TCP connections to a unix socket, for clients that dial TCP only.

Says on the first line of its output which port it got.
"""

import asyncio
import sys


async def relay(path, reader, writer):
    unix_reader, unix_writer = await asyncio.open_unix_connection(path)
    await asyncio.gather(copy(reader, unix_writer), copy(unix_reader, writer))
    writer.close()
    unix_writer.close()


async def copy(source, sink):
    """Passes on bytes and then the end of them."""
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.write_eof()
    except OSError:
        sink.close()


async def main(path):
    server = await asyncio.start_server(
        lambda reader, writer: relay(path, reader, writer), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    print(f"listening on {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
