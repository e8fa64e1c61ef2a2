"""Attempts of a program in a sandbox to reach what it must not. Reads {"resolver", "limit", "attempts": [{"id", "op", ...}]} from its
first argument or standard input, makes them all at once, and says of each what was heard: [{"id", "heard", "error", "ms"}]. Waits for no answer longer
than the limit; `error` is "timeout" of one that took that long. With "seconds" in the order each is made again and again for as long, or until SIGUSR1 says that it is enough."""

import os, re, select, signal, socket, ssl, struct, subprocess, sys, threading, time, urllib.parse

# A small Python has no reader of JSON but itself.
order = eval(sys.argv[1] if len(sys.argv) > 1 else sys.stdin.read(), {"true": True, "false": False, "null": None})
LIMIT = order["limit"]
# Of one attempt that has its own.
own = threading.local()
RESOLVER = order.get("resolver")
# Addresses that lead elsewhere by any other interface.
DEVICE, BOUND = order.get("device", ""), order.get("bound", [])
ENDS_AT = time.monotonic() + order.get("seconds", 0)


def limit():
    return getattr(own, "limit", LIMIT)


def enough(*_):
    global ENDS_AT
    ENDS_AT = 0




def dumps(value):
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(key)}:{dumps(one)}" for key, one in value.items()) + "}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return '"' + "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else f"\\u{ord(c) & 0xFFFF:04x}" for c in value) + '"'
    return str(value)


def question(name, kind, ident=0x5353):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def skip_name(data, at):
    while data[at]:
        if data[at] >= 0xC0:
            return at + 2
        at += 1 + data[at]
    return at + 1


def addresses_in(data):
    """What a DNS answer says: "RCODE address address"."""
    said = [["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"][data[3] & 15]]
    questions, answers = struct.unpack(">2H", data[4:8])
    at = 12
    for _ in range(questions):
        at = skip_name(data, at) + 4
    for _ in range(answers):
        at = skip_name(data, at)
        kind, _, _, size = struct.unpack(">2HIH", data[at : at + 10])
        at += 10
        if kind == 1:
            said.append(socket.inet_ntop(socket.AF_INET, data[at : at + 4]))
        if kind == 28:
            said.append(socket.inet_ntop(socket.AF_INET6, data[at : at + 16]))
        at += size
    return " ".join(said)


def lookup(name):
    """By the system; by the resolver named in the order, where the system knows another internet."""
    if re.fullmatch(r"[\d.]+|.*:.*", name):
        return name
    if not RESOLVER:
        return socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM)[0][4][0]
    for kind in (1, 28):
        found = dns({"server": RESOLVER, "name": name, "type": kind}).split(" ")
        if len(found) > 1:
            return found[1]
    raise OSError("no such name")


def literal(host):
    """Odd spellings of addresses are the C library's to read."""
    return socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4][0]


def bind_to_device(s, host):
    if host.replace("::ffff:", "") in BOUND:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, DEVICE.encode())


def dial(a):
    host = literal(a["host"]) if a.get("literal") else lookup(a["host"])
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(limit())
    bind_to_device(s, host)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for level, option, value in a.get("options", []):
        s.setsockopt(level, option, value.encode() if isinstance(value, str) else value)
    if "source" in a:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((a.get("source_host", ""), a["source"]))
    if a.get("fast_open"):
        try:
            s.sendto(a["send"].encode("latin1"), socket.MSG_FASTOPEN, (host, a["port"]))
        except BlockingIOError:
            # It goes without a cookie: the bytes are not on their way yet.
            select.select([], [s], [], limit())
            s.sendall(a["send"].encode("latin1"))
    else:
        s.connect((host, a["port"]))
    return s


def hear(s, until=None, quiet=0.4):
    """All that comes until it ends, is silent for a moment behind something, or holds what is waited for."""
    heard = b""
    try:
        while len(heard) < 65536:
            s.settimeout(quiet if heard else limit())
            chunk = s.recv(4096)
            if not chunk:
                break
            heard += chunk
            if until and until in heard:
                break
    except TimeoutError:
        if not heard:
            raise
    except OSError:
        if not heard:
            raise
    return heard.decode("latin1")


def tcp(a):
    """Says something and hears what comes; `next` is said once something came."""
    with dial(a) as s:
        if not a.get("fast_open"):
            send = a["send"].encode("latin1")
            size = a.get("pieces") or max(1, len(send))
            for at in range(0, len(send), size):
                s.sendall(send[at : at + size])
                time.sleep(0.002 if "pieces" in a else 0)
        heard = hear(s)
        if "next" in a:
            s.sendall(a["next"].encode("latin1"))
            try:
                heard += hear(s)
            except OSError as error:
                heard += " next " + type(error).__name__
        return heard


def hold(a):
    """Says something, and then talks on for as long as somebody answers; how long nobody did before that was plain."""
    with dial(a) as s:
        s.sendall(a["send"].encode("latin1"))
        if b"lab " not in hear(s, until=b"lab ").encode("latin1"):
            return ""
        last = time.monotonic()
        while time.monotonic() < ENDS_AT:
            try:
                s.sendall(b"tick")
                if not s.recv(4096):
                    break
            except OSError:
                break
            last = time.monotonic()
            time.sleep(0.01)
        return f"{round(1000 * (time.monotonic() - last))} "


def client():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def hello(names):
    """A hello of TLS as OpenSSL makes it, with these names in it instead of one; each list is an extension of its own."""
    context = client()
    outgoing = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    body = outgoing.read()[9:]
    at = 34 + 1 + body[34]
    at += 2 + struct.unpack(">H", body[at : at + 2])[0]
    at += 1 + body[at]
    extensions = body[at + 2 :]
    added = b""
    for one in names:
        entries = b"".join(b"\0" + struct.pack(">H", len(n)) + n for n in (name.encode("latin1") for name in one))
        added += struct.pack(">3H", 0, len(entries) + 2, len(entries)) + entries
    extensions = added + extensions
    body = body[:at] + struct.pack(">H", len(extensions)) + extensions
    return b"\1" + struct.pack(">I", len(body))[1:] + body


def records(handshake, sizes):
    """Cut into records of these sizes; the last has the rest."""
    cut, at = [], 0
    for size in [*sizes, len(handshake)]:
        piece = handshake[at : at + size]
        at += size
        if piece:
            cut.append(b"\x16\3\1" + struct.pack(">H", len(piece)) + piece)
    return cut


def raw_hello(a):
    """A hello that is made by hand: with several names, in several records, byte by byte."""
    pieces = records(hello(a["names"]), a.get("records", []))
    if a.get("drip"):
        whole = b"".join(pieces)
        pieces = [whole[i : i + 64] for i in range(0, len(whole), 64)]
    with dial(a) as s:
        for piece in pieces:
            s.sendall(piece)
            time.sleep(0.005)
        return hear(s)


def tls(a):
    """A request by TLS with a name, and maybe another in its Host."""
    with client().wrap_socket(dial(a), server_hostname=a.get("name")) as s:
        s.settimeout(limit())
        host = a.get("header", a.get("name") or a["host"])
        s.sendall(f"GET {a.get('path', '/')} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
        return hear(s)


def url(a):
    """As a program does that follows redirections."""
    at, heard = a["url"], ""
    for _ in range(4):
        parts = urllib.parse.urlsplit(at)
        port = parts.port or 80
        target = parts.path + ("?" + parts.query if parts.query else "")
        said = f"GET {target} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n"
        heard = tcp({"host": parts.hostname, "port": port, "send": said})
        led = re.search(r"\r\nlocation: (\S+)", heard, re.I)
        if not led:
            return heard
        at = led[1]
    return heard


def udp(a):
    family = socket.AF_INET6 if ":" in a["host"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM, a.get("protocol", 0)) as s:
        s.settimeout(limit())
        bind_to_device(s, a["host"])
        if "source" in a:
            s.bind(("", a["source"]))
        s.connect((a["host"], a["port"]))
        s.send(a["send"].encode("latin1"))
        return s.recv(4096).decode("latin1")


def udp_stream(a):
    """Asks for datagrams that keep coming, and keeps sending in between."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((a["host"], a["port"]))
        while time.monotonic() < ENDS_AT:
            try:
                s.send(a["send"].encode("latin1"))
            except OSError:
                pass
            time.sleep(0.01)
    return ""


def dns(a):
    data = question(a["name"], a.get("type", 1))
    if a.get("tcp"):
        with dial({"host": a["server"], "port": a.get("port", 53), "literal": True}) as s:
            s.sendall(struct.pack(">H", len(data)) + data)
            return addresses_in(hear(s).encode("latin1")[2:])
    family = socket.AF_INET6 if ":" in a["server"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(limit())
        if "source" in a:
            s.bind(("", a["source"]))
        s.connect((a["server"], a.get("port", 53)))
        s.send(data)
        return addresses_in(s.recv(4096))


def named_server():
    return re.search(r"^nameserver (\S+)", open("/etc/resolv.conf").read(), re.M)[1]


def own_dns(a):
    """Whoever the sandbox is told to ask."""
    return dns({**a, "server": named_server()})


def every_udp(a):
    """Every UDP port that is bound in here, at every loopback address that resolvers have."""
    ports = {int(line.split()[1].split(":")[1], 16) for line in open("/proc/net/udp").readlines()[1:]}
    heard = []
    for port in ports:
        for server in ("127.0.0.11", "127.0.0.1"):
            try:
                heard.append(dns({**a, "server": server, "port": port}))
            except OSError as error:
                heard.append(type(error).__name__)
    return dumps(heard)


def every_tcp(a):
    """Every TCP port that listens in here, with what might make a gate lead on from it."""
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{table}").readlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports.add((int(fields[1].split(":")[1], 16), "::1" if table == "tcp6" else "127.0.0.1"))
    heard = []
    for port, host in sorted(ports):
        for send in a["sends"]:
            try:
                heard.append(tcp({"literal": True, "host": host, "port": port, "send": send}))
            except OSError as error:
                heard.append(type(error).__name__)
    return dumps(heard)


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def datagram(a):
    """A whole packet of IP with one of UDP in it."""
    send = a["send"].encode("latin1")
    send += b"\0" * (len(send) % 2)
    source, to = (socket.inet_aton(a.get(key, "10.1.2.3")) for key in ("from", "host"))
    inner = struct.pack(">4H", 4444, a["port"], 8 + len(send), 0) + send
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(inner), 7, 0, 64, 17, 0) + source + to
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + inner


def raw(a):
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        s.sendto(datagram(a), (a["host"], 0))
        return "sent"


def frames(a):
    """The same on every interface, below the protocols."""
    sent = []
    for name in a.get("interfaces") or [name for _, name in socket.if_nameindex()]:
        with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as s:
            hardware = bytes.fromhex(a.get("hardware", "ff" * 6))
            try:
                s.sendto(datagram(a), (name, 0x0800, 0, 0, hardware))
                sent.append(name)
            except OSError as error:
                sent.append(type(error).__name__)
    return dumps(sent)


def ping(a):
    kind = socket.SOCK_RAW if a.get("raw") else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP) as s:
        s.settimeout(limit())
        send = a["send"].encode("latin1")
        send += b"\0" * (len(send) % 2)
        head = struct.pack(">BBHHH", 8, 0, 0, 77, 1)
        s.sendto(head[:2] + struct.pack(">H", checksum(head + send)) + head[4:] + send, (a["host"], 0))
        return "ping " + s.recv(4096).decode("latin1")


def attribute(kind, data):
    data += b"\0" * (-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + data


def drop_rules(a):
    """Deletes the table `inet sandbar` of nftables, as a batch of netlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as s:
        s.settimeout(limit())
        s.bind((0, 0))

        def message(kind, sequence, payload=b"", family=0, flags=5, resource=0):
            body = struct.pack(">BBH", family, 0, resource) + payload
            return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body

        table = message(0xA02, 2, attribute(1, b"sandbar\0"), family=1)
        s.send(message(16, 1, resource=10, flags=1) + table + message(17, 3, resource=10, flags=1))
        code = struct.unpack("=i", s.recv(4096)[16:20])[0]
        return "lab rules: gone" if code == 0 else os.strerror(-code)


def under(a):
    """Another attempt as a program of another one: `unshare`."""
    inner = dumps({**order, "attempts": [{**a["attempt"], "id": "inner"}]})
    again = [*a["program"], sys.executable, "-c", sys.orig_argv[2]]
    done = subprocess.run(again, input=inner, capture_output=True, text=True, timeout=2 * limit())
    return done.stdout + done.stderr


OPS = {
    name: globals()[name]
    for name in "tcp hold raw_hello tls url udp udp_stream dns own_dns every_udp every_tcp raw frames ping drop_rules under".split()
}
results = []


def attempt(a):
    begun = time.monotonic()
    own.limit = a.get("limit", LIMIT)
    heard, error = "", ""
    while True:
        try:
            heard += OPS[a["op"]](a) or ""
        except TimeoutError:
            error = "timeout"
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        if time.monotonic() >= ENDS_AT:
            break
        time.sleep(0.005)
    results.append({"id": a["id"], "heard": heard, "error": error, "ms": round(1000 * (time.monotonic() - begun))})


signal.signal(signal.SIGUSR1, enough)
threads = [threading.Thread(target=attempt, args=(one,), daemon=True) for one in order["attempts"]]
for thread in threads:
    thread.start()
for thread in threads:
    # A signal is heard between two waits only.
    while thread.is_alive():
        thread.join(0.1)
print(dumps(results))
