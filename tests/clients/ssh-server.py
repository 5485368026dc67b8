"""An SSH server that lets everybody in and sends back what it gets; its port goes to the file named."""

import asyncio
import os
import sys

import asyncssh


class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False


async def echo(process):
    process.stdout.write(await process.stdin.read())
    process.exit(7)


async def main():
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_factory=Server, server_host_keys=[key], process_factory=echo
    )
    with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
        file.write(str(server.get_port()))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    await server.wait_closed()


asyncio.run(main())
