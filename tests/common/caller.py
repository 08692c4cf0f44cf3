"""Who serves whom: a server that says its name, and a client that does as it is told.

    serve PORT...           TCP and UDP on each port: answers whatever comes with the host's name
    call                    reads commands from standard input, answers each with a line:
        tcp HOST PORT SOURCE SOURCE_PORT    opens a connection: "NUMBER NAME"
        udp HOST PORT SOURCE SOURCE_PORT    one datagram and its answer: "NAME"
        again NUMBER                        speaks on an open connection: "NAME"
        reset                               ends all connections at once: "reset"
      What fails is answered by "error: WHY". A SOURCE of "-" is any address, a SOURCE_PORT of 0
      any port.
"""

import selectors
import socket
import struct
import sys

PATIENCE = 30  # seconds: for what should not come at all, or comes on a slow machine


def address(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def bound(kind, host, port):
    made = socket.socket(address(host), kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((host, port))
    return made


def serve(ports):
    name = socket.gethostname().encode()
    wait = selectors.DefaultSelector()
    for port in map(int, ports):
        tcp = bound(socket.SOCK_STREAM, "::", port)
        tcp.listen(512)
        wait.register(tcp, selectors.EVENT_READ, "listen")
        wait.register(bound(socket.SOCK_DGRAM, "::", port), selectors.EVENT_READ, "datagrams")
    while True:
        for key, _ in wait.select():
            try:
                if key.data == "listen":
                    wait.register(key.fileobj.accept()[0], selectors.EVENT_READ, "connection")
                elif key.data == "datagrams":
                    key.fileobj.sendto(name, key.fileobj.recvfrom(2048)[1])
                elif key.fileobj.recv(2048):
                    key.fileobj.sendall(name + b"\n")
                else:
                    raise ConnectionResetError
            except OSError:
                if key.data == "connection":
                    wait.unregister(key.fileobj)
                    key.fileobj.close()


def speak(connection):
    connection.sendall(b"who\n")
    heard = b""
    while not heard.endswith(b"\n"):
        more = connection.recv(2048)
        if not more:
            raise ConnectionError("the connection was closed")
        heard += more
    return heard.decode().strip()


def call():
    connections = []

    def made(kind, host, port, source, source_port):
        new = bound(kind, ("::" if ":" in host else "0.0.0.0") if source == "-" else source,
                    int(source_port))
        new.settimeout(PATIENCE)
        new.connect((host, int(port)))
        return new

    def tcp(*where):
        connection = made(socket.SOCK_STREAM, *where)
        connections.append(connection)
        return f"{len(connections) - 1} {speak(connection)}"

    def udp(*where):
        with made(socket.SOCK_DGRAM, *where) as one:
            one.send(b"who")
            return one.recv(2048).decode()

    def again(number):
        return speak(connections[int(number)])

    def reset():
        for connection in connections:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        connections.clear()
        return "reset"

    known = {"tcp": tcp, "udp": udp, "again": again, "reset": reset}
    for line in sys.stdin:
        word, *rest = line.split()
        try:
            print(known[word](*rest), flush=True)
        except OSError as error:
            print(f"error: {error}", flush=True)


if sys.argv[1] == "serve":
    serve(sys.argv[2:])
else:
    call()
