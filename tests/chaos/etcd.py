"""Requests to etcd's JSON gateway: what the driver and the model clients need of it, and not more."""
import base64
import http.client
import json
import socket


class EtcdError(Exception):
    """No answer (code None), or an answer that is an error (its gRPC code)."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def unb64(text):
    return base64.b64decode(text or "").decode()


def after(prefix):
    """The end of the range of all keys that begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def post(endpoint, path, body, timeout=2.0, token=None):
    """One request to host:port; returns the decoded answer."""
    host, port = endpoint.rsplit(":", 1)
    headers = {"Grpc-Metadata-hasleader": "true"}
    if token:
        headers["Authorization"] = token
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("POST", path, json.dumps(body), headers)
        answer = json.loads(connection.getresponse().read().decode())
    except (OSError, socket.timeout, ValueError, http.client.HTTPException) as e:
        raise EtcdError(None, f"{endpoint}: {e!r}") from None
    finally:
        connection.close()
    error = answer.get("error")
    if error or "code" in answer:
        inner = error if isinstance(error, dict) else answer
        raise EtcdError(inner.get("code", inner.get("grpc_code")), str(inner.get("message") or error))
    return answer.get("result", answer)


class Client:
    """Somebody who asks the endpoints in turn until one answers, with a user and password where that is wanted."""

    def __init__(self, endpoints, user=None, password=None):
        self.endpoints = list(endpoints)
        self.user, self.password = user, password
        self.token = None

    def call(self, path, body, timeout=2.0):
        """The first good answer; the last error if there is none. An error that is an answer ends the search."""
        last = EtcdError(None, "no endpoint")
        for endpoint in list(self.endpoints):
            try:
                return self.call_at(endpoint, path, body, timeout)
            except EtcdError as e:
                last = e
                if e.code in (3, 5, 7, 9, 11):
                    raise
            self.endpoints.append(self.endpoints.pop(0))
        raise last

    def call_at(self, endpoint, path, body, timeout=2.0):
        for attempt in range(3):
            if self.user and not self.token:
                answer = post(endpoint, "/v3/auth/authenticate", {"name": self.user, "password": self.password}, timeout)
                self.token = answer["token"]
            try:
                return post(endpoint, path, body, timeout, self.token)
            except EtcdError as e:
                unknown = e.code == 16 or "user name is empty" in str(e) or "revision" in str(e)
                if not self.user or not unknown or attempt == 2:
                    raise
                self.token = None

    def entries(self, prefix, serializable=False, **more):
        """Everything below a prefix, oldest first."""
        answer = self.call("/v3/kv/range", {"key": b64(prefix), "range_end": b64(after(prefix)), "sort_order": "ASCEND",
                                            "sort_target": "CREATE", "serializable": serializable, **more})
        return answer.get("kvs", [])

    def leases(self):
        return [int(lease["ID"]) for lease in self.call("/v3/lease/leases", {}).get("leases", [])]
