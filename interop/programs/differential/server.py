"""h11 as a server: says of each request what it read, in a field of the answer; refuses with the reason."""

import socket
import threading

import h11


def serve(stream):
    connection = h11.Connection(h11.SERVER)
    head, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            answer = f"HTTP/1.1 400 Bad Request\r\nX-Refused: {error}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            stream.sendall(answer.encode("latin-1"))
            return
        if event is h11.NEED_DATA:
            connection.receive_data(stream.recv(65536))
        elif isinstance(event, h11.Request):
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            read = b" ".join([head.method, head.target, b"=" + body.hex().encode()])
            answer = h11.Response(status_code=200, headers=[(b"X-Read", read), (b"Content-Length", b"0")])
            stream.sendall(connection.send(answer) + connection.send(h11.EndOfMessage()))
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()
        else:
            return


def handle(stream):
    with stream:
        serve(stream)


listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    accepted, _ = listener.accept()
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    threading.Thread(target=handle, args=(accepted,), daemon=True).start()
