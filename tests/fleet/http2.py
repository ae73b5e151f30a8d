"""HTTP/2 for tests: a client, and a server with one thread per connection and one per stream."""
import contextlib
import socket
import threading

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import hyperframe.frame


class Gone(Exception):
    """The connection or the stream is gone."""


class Stream:
    """One request, and the way to answer it."""

    def __init__(self, connection, number, headers):
        self.connection, self.number = connection, number
        self.headers = {k.decode(): v.decode() for k, v in headers}
        self.data, self.ended, self.gone, self.served = b"", False, False, False

    @property
    def path(self):
        return self.headers[":path"]

    # --- sending ---

    def _call(self, function, *args, **kw):
        with self.connection.lock:
            if self.gone:
                raise Gone
            try:
                function(self.number, *args, **kw)
                self.connection.flush()
            except (h2.exceptions.H2Error, OSError) as e:
                raise Gone from e

    def start(self, headers, end=False):
        self._call(self.connection.h2.send_headers, [(k, str(v)) for k, v in headers.items()],
                   end_stream=end)

    def send(self, data, end=False):
        """Sends as much at a time as the client's window has room for."""
        while True:
            with self.connection.lock:
                room = 0 if self.gone else self.connection.h2.local_flow_control_window(self.number)
                room = min(room, self.connection.h2.max_outbound_frame_size)
                if self.gone:
                    raise Gone
                if data and not room:
                    self.connection.changed.wait(1)
                    continue
                part, data = data[:room], data[room:]
                self._call(self.connection.h2.send_data, part, end_stream=end and not data)
            if not data:
                return

    def reset(self, error=h2.errors.ErrorCodes.INTERNAL_ERROR):
        self._call(self.connection.h2.reset_stream, error_code=error)


class Connection:
    """A client's connection, served until it ends."""

    def __init__(self, server, s):
        self.server, self.socket = server, s
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False,
                                                                       header_encoding=False))
        self.streams = {}

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.socket.sendall(data)

    def run(self):
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, h2.exceptions.H2Error):
            with self.lock:
                self.h2.initiate_connection()
                self.flush()
            while data := self.socket.recv(65536):
                with self.lock:
                    for event in self.h2.receive_data(data):
                        self.take(event)
                    self.flush()
                    self.changed.notify_all()
        with self.lock:
            for stream in self.streams.values():
                stream.gone = True
            self.changed.notify_all()
        self.server.left(self)
        self.socket.close()

    def take(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.streams[event.stream_id] = Stream(self, event.stream_id, event.headers)
            return
        stream = self.streams.get(getattr(event, "stream_id", None))
        if not stream:
            return
        if isinstance(event, h2.events.DataReceived):
            stream.data += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.gone = True
        if not stream.served and not stream.gone and self.server.is_whole(stream):
            stream.served = True
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        try:
            self.server.serve(stream)
        except Gone:
            if not stream.gone:
                self.hang_up()

    def hang_up(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def go_away(self):
        """Serves the open streams to their end, and accepts no more."""
        frame = hyperframe.frame.GoAwayFrame(0, last_stream_id=max(self.streams, default=0))
        with self.lock, contextlib.suppress(OSError):
            self.socket.sendall(frame.serialize())


class Listener:
    """Accepts connections. SERVER: has serve(STREAM), is_whole(STREAM), left(CONNECTION)."""

    def __init__(self, server, port):
        self.server, self.connections = server, set()
        self.socket = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                s = self.socket.accept()[0]
            except OSError:
                return
            connection = Connection(self, s)
            self.connections.add(connection)
            threading.Thread(target=connection.run, daemon=True).start()

    def is_whole(self, stream):
        return self.server.is_whole(stream)

    def serve(self, stream):
        self.server.serve(stream)

    def left(self, connection):
        self.connections.discard(connection)

    def disconnect(self):
        for connection in list(self.connections):
            connection.hang_up()

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join()
        self.disconnect()


class Call:
    """A call on its own connection. .data: what has arrived; .trailers: set at the end."""

    def __init__(self, port, path, data, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.data, self.headers, self.ended = b"", {}, False
        self.h2.initiate_connection()
        self.h2.send_headers(1, [(":method", "POST"), (":scheme", "http"), (":path", path),
                                 (":authority", "test"), ("content-type", "application/grpc"),
                                 ("te", "trailers")])
        self.h2.send_data(1, data, end_stream=not path.endswith("/Watch"))
        self.socket.sendall(self.h2.data_to_send())

    def read(self):
        """Waits for the next bytes, and takes them in."""
        data = self.socket.recv(65536)
        if not data:
            raise Gone
        for event in self.h2.receive_data(data):
            if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                self.headers |= dict(event.headers)
            elif isinstance(event, h2.events.DataReceived):
                self.data += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = True
            elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                raise Gone
        self.socket.sendall(self.h2.data_to_send())

    def close(self):
        self.socket.close()
