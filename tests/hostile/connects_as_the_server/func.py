"""By the server's own client ids, as it and as nobody: who gets in throws the server out."""

import socket


def text(data):
    return len(data).to_bytes(2, "big") + data


def main(world):
    got = []
    for client in world["clients"]:
        for name, password in ((None, None), (world["account"], ""), (world["account"], "guessed"), ("", "")):
            flags = 0x02 if name is None else 0xC2
            body = text(b"MQTT") + bytes([4, flags, 0, 10]) + text(client.encode())
            if name is not None:
                body += text(name.encode()) + text(password.encode())
            with socket.create_connection(("127.0.0.1", world["port"]), 5) as broker:
                broker.sendall(bytes([0x10, len(body)]) + body)
                answer = broker.recv(4)
            if len(answer) == 4 and answer[3] == 0:
                got.append(f"{client} as {name!r}")
    return got
