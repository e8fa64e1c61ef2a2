/** An app that answers in all the ways that are hard on what lies before it. It needs no more of python than the smallest images have. */
export const TUNNEL_APP = `
import base64, hashlib, socket, struct, sys, threading, time, zlib

def quoted(text): return '"' + "".join(c if 31 < ord(c) < 127 and c not in '"\\\\' else "\\\\u%04x" % ord(c) for c in text) + '"'
def json(**fields):
    headers = ",".join(quoted(k) + ":" + quoted(v) for k, v in fields.pop("headers").items())
    return ("{" + "".join("%s:%s," % (quoted(k), quoted(v)) for k, v in fields.items()) + '"headers":{' + headers + "}}").encode()

def serve(client):
    stream = client.makefile("rwb")
    while (line := stream.readline()):
        method, path, _ = line.decode().split(" ")
        headers = {}
        while (line := stream.readline().strip()):
            name, value = line.decode("latin1").split(":", 1)
            headers[name.lower()] = value.strip()
        answer(stream, method, path, headers)
        stream.flush()
        if headers.get("connection", "").lower() != "keep-alive": break
    stream.close(); client.close()

def say(stream, method, body, *more):
    stream.write("\\r\\n".join(["HTTP/1.1 200 OK", *more, "Content-Length: %d" % len(body), "", ""]).encode())
    if method != "HEAD": stream.write(body)

def answer(stream, method, path, headers):
    if headers.get("upgrade") == "websocket": return websocket(stream, headers)
    if path == "/enough":
        packer = zlib.compressobj(wbits=31)
        packed = packer.compress(b"enough") + packer.flush()
        return stream.write(b"HTTP/1.1 413 Enough\\r\\nContent-Encoding: gzip\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(packed), packed))
    if path == "/echo": return echo(stream, headers)
    if method == "POST":
        digest, size = hashlib.sha256(), 0
        for chunk in body(stream, headers): digest.update(chunk); size += len(chunk)
        return say(stream, method, json(sha256=digest.hexdigest(), size=str(size), headers=headers))
    if path == "/gzip":
        packer = zlib.compressobj(wbits=31)
        packed = packer.compress(b"packed" * 1000) + packer.flush()
        return say(stream, method, packed, "Content-Encoding: gzip", "Set-Cookie: a=1; Domain=localhost")
    if path == "/sse":
        stream.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: text/event-stream\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
        for n in range(5):
            event = b"data: %d\\n\\n" % n
            stream.write(b"%x\\r\\n%s\\r\\n" % (len(event), event)); stream.flush(); time.sleep(0.3)
        return stream.write(b"0\\r\\n\\r\\n")
    if path.startswith("/big/"):
        stream.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % (int(path[5:]) << 20))
        for _ in range(int(path[5:])): stream.write(b"x" * (1 << 20))
        return
    say(stream, method, json(path=path, headers=headers))

def parts(stream, left):
    while left > 0:
        part = stream.read1(min(left, 1 << 20)); left -= len(part)
        if not part: open("/tmp/broke-off", "w"); raise ConnectionError
        yield part

def body(stream, headers):
    if "content-length" in headers:
        yield from parts(stream, int(headers["content-length"]))
        return
    while (length := int(stream.readline().strip() or b"1", 16)):
        yield from parts(stream, length); stream.readline()
    stream.readline()

def echo(stream, headers):
    stream.write(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n"); stream.flush()
    for part in body(stream, headers): stream.write(b"%x\\r\\n%s\\r\\n" % (len(part), part)); stream.flush()
    stream.write(b"0\\r\\n\\r\\n")

def websocket(stream, headers):
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    stream.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSet-Cookie: ws=1; domain=.localhost\\r\\nSec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    stream.flush()
    kind, message = 1, b""
    while (head := stream.read(2)):
        final, op, length = head[0] & 128, head[0] & 15, head[1] & 127
        if length == 126: length, = struct.unpack(">H", stream.read(2))
        elif length == 127: length, = struct.unpack(">Q", stream.read(8))
        mask = stream.read(4); data = stream.read(length)
        data = (int.from_bytes(data, "big") ^ int.from_bytes((mask * (length // 4 + 1))[:length], "big")).to_bytes(length, "big")
        if op == 8: return frame(stream, 8, data)
        if op in (9, 10): continue
        kind = op or kind; message += data
        if not final: continue
        if message == b"close": frame(stream, 8, struct.pack(">H", 4001) + b"bye")
        else: frame(stream, kind, message)
        message = b""

def frame(stream, op, data):
    length = struct.pack(">BBQ", 0x80 | op, 127, len(data)) if len(data) > 65535 else struct.pack(">BBH", 0x80 | op, 126, len(data)) if len(data) > 125 else struct.pack(">BB", 0x80 | op, len(data))
    stream.write(length + data); stream.flush()

server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", int(sys.argv[1]))); server.listen(64)
while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
`;
