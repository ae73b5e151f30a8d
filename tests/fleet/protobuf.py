"""
etcd's messages in protobuf, as values like those of its JSON gateway: bytes are base64, 64-bit
numbers are strings, and zeros are omitted. Field numbers are those of etcd's rpc.proto.
"""
import base64

ORDER = ["NONE", "ASCEND", "DESCEND"]
TARGET = ["KEY", "VERSION", "CREATE", "MOD", "VALUE"]
RESULT = ["EQUAL", "GREATER", "LESS", "NOT_EQUAL"]
COMPARED = ["VERSION", "CREATE", "MOD", "VALUE", "LEASE"]

# name: {number: (field, type)}. A type is "int", "bool", "bytes", "text", a list of an enumeration's
# names, or the name of a message; in a tuple: repeated.
MESSAGES = {
    "Header": {1: ("cluster_id", "int"), 2: ("member_id", "int"), 3: ("revision", "int"),
               4: ("raft_term", "int")},
    "Empty": {},
    "Done": {1: ("header", "Header")},
    "Lease": {1: ("ID", "int"), 2: ("keys", "bool")},
    "Grant": {1: ("TTL", "int"), 2: ("ID", "int")},
    "Granted": {1: ("header", "Header"), 2: ("ID", "int"), 3: ("TTL", "int"),
                4: ("grantedTTL", "int"), 5: ("keys", ("bytes",))},
    "Pair": {1: ("key", "bytes"), 2: ("create_revision", "int"), 3: ("mod_revision", "int"),
             4: ("version", "int"), 5: ("value", "bytes"), 6: ("lease", "int")},
    "Range": {1: ("key", "bytes"), 2: ("range_end", "bytes"), 3: ("limit", "int"),
              4: ("revision", "int"), 5: ("sort_order", ORDER), 6: ("sort_target", TARGET),
              7: ("serializable", "bool"), 8: ("keys_only", "bool"), 9: ("count_only", "bool"),
              10: ("min_mod_revision", "int"), 11: ("max_mod_revision", "int"),
              12: ("min_create_revision", "int"), 13: ("max_create_revision", "int")},
    "Ranged": {1: ("header", "Header"), 2: ("kvs", ("Pair",)), 3: ("more", "bool"),
               4: ("count", "int")},
    "Put": {1: ("key", "bytes"), 2: ("value", "bytes"), 3: ("lease", "int"), 4: ("prev_kv", "bool"),
            5: ("ignore_value", "bool"), 6: ("ignore_lease", "bool")},
    "PutDone": {1: ("header", "Header"), 2: ("prev_kv", "Pair")},
    "Delete": {1: ("key", "bytes"), 2: ("range_end", "bytes"), 3: ("prev_kv", "bool")},
    "Deleted": {1: ("header", "Header"), 2: ("deleted", "int"), 3: ("prev_kvs", ("Pair",))},
    "Compare": {1: ("result", RESULT), 2: ("target", COMPARED), 3: ("key", "bytes"),
                4: ("version", "int"), 5: ("create_revision", "int"), 6: ("mod_revision", "int"),
                7: ("value", "bytes"), 8: ("lease", "int"), 64: ("range_end", "bytes")},
    "Operation": {1: ("request_range", "Range"), 2: ("request_put", "Put"),
                  3: ("request_delete_range", "Delete"), 4: ("request_txn", "Txn")},
    "Response": {1: ("response_range", "Ranged"), 2: ("response_put", "PutDone"),
                 3: ("response_delete_range", "Deleted"), 4: ("response_txn", "TxnDone")},
    "Txn": {1: ("compare", ("Compare",)), 2: ("success", ("Operation",)),
            3: ("failure", ("Operation",))},
    "TxnDone": {1: ("header", "Header"), 2: ("succeeded", "bool"), 3: ("responses", ("Response",))},
    "WatchCreate": {1: ("key", "bytes"), 2: ("range_end", "bytes"), 3: ("start_revision", "int"),
                    4: ("progress_notify", "bool"), 5: ("filters", (["NOPUT", "NODELETE"],)),
                    6: ("prev_kv", "bool"), 7: ("watch_id", "int")},
    "Watch": {1: ("create_request", "WatchCreate")},
    "Event": {1: ("type", ["PUT", "DELETE"]), 2: ("kv", "Pair"), 3: ("prev_kv", "Pair")},
    "Watched": {1: ("header", "Header"), 2: ("watch_id", "int"), 3: ("created", "bool"),
                4: ("canceled", "bool"), 5: ("compact_revision", "int"),
                6: ("cancel_reason", "text"), 11: ("events", ("Event",))},
    "Authenticate": {1: ("name", "text"), 2: ("password", "text")},
    "Token": {1: ("header", "Header"), 2: ("token", "text")},
    "Status": {1: ("header", "Header"), 2: ("version", "text"), 3: ("dbSize", "int"),
               4: ("leader", "int"), 5: ("raftIndex", "int"), 6: ("raftTerm", "int")},
}

# The gateway's path: gRPC's path, the request's message and the answer's.
METHODS = {
    "lease/grant": ("Lease/LeaseGrant", "Grant", "Granted"),
    "lease/keepalive": ("Lease/LeaseKeepAlive", "Lease", "Granted"),
    "lease/timetolive": ("Lease/LeaseTimeToLive", "Lease", "Granted"),
    "lease/revoke": ("Lease/LeaseRevoke", "Lease", "Done"),
    "kv/range": ("KV/Range", "Range", "Ranged"),
    "kv/txn": ("KV/Txn", "Txn", "TxnDone"),
    "kv/put": ("KV/Put", "Put", "PutDone"),
    "kv/deleterange": ("KV/DeleteRange", "Delete", "Deleted"),
    "watch": ("Watch/Watch", "Watch", "Watched"),
    "auth/authenticate": ("Auth/Authenticate", "Authenticate", "Token"),
    "maintenance/status": ("Maintenance/Status", "Empty", "Status"),
}


def varint(n):
    out = bytearray()
    n &= (1 << 64) - 1
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def encode_one(number, kind, value):
    if kind in ("int", "bool"):
        return varint(number << 3) + varint(int(value))
    if isinstance(kind, list):
        return varint(number << 3) + varint(kind.index(value))
    if kind == "bytes":
        return field(number, base64.b64decode(value))
    if kind == "text":
        return field(number, value.encode())
    return field(number, encode(kind, value))


def encode(message, value):
    """VALUE as a MESSAGE in protobuf, without names that MESSAGE does not have."""
    out = b""
    for number, (name, kind) in MESSAGES[message].items():
        if name not in value:
            continue
        if isinstance(kind, tuple):
            out += b"".join(encode_one(number, kind[0], one) for one in value[name])
        else:
            out += encode_one(number, kind, value[name])
    return out


def read_varint(data, at):
    n = shift = 0
    while True:
        n |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 128:
            return n, at


def decode_one(kind, value):
    if kind == "int":
        return str(value - (1 << 64) if value >> 63 else value)
    if kind == "bool":
        return bool(value)
    if isinstance(kind, list):
        return kind[value]
    if kind == "bytes":
        return base64.b64encode(value).decode()
    if kind == "text":
        return value.decode(errors="surrogateescape")
    return decode(kind, value)


def decode(message, data, strict=False):
    """STRICT: unknown fields are an error."""
    value, at = {}, 0
    while at < len(data):
        tag, at = read_varint(data, at)
        one, at = read_varint(data, at)
        if tag & 7 == 2:
            one, at = data[at:at + one], at + one
        elif tag & 7:
            raise ValueError(f"a field of kind {tag & 7}")
        if tag >> 3 not in MESSAGES[message]:
            if strict:
                raise ValueError(f"{message} has no field {tag >> 3}")
            continue
        name, kind = MESSAGES[message][tag >> 3]
        if isinstance(kind, tuple):
            value.setdefault(name, []).append(decode_one(kind[0], one))
        else:
            value[name] = decode_one(kind, one)
    return value


def framed(data, compressed=0):
    """A message as gRPC sends it."""
    return bytes([compressed]) + len(data).to_bytes(4, "big") + data


def messages_of(data):
    """The complete messages in DATA, and the rest of it."""
    messages = []
    while len(data) >= 5 and len(data) >= 5 + (n := int.from_bytes(data[1:5], "big")):
        messages.append(data[5:5 + n])
        data = data[5 + n:]
    return messages, data
