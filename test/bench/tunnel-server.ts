/** Where {@link TUNNEL_SERVER} listens. */
export const TUNNEL_PORTS = { tunnel: 9000, published: 9001 };

/**
 * An HTTP server in what a minimal python has, on both ports: `/` answers a few bytes, `/bytes?mib=N` many, `/sink` how many it was sent;
 * a WebSocket gets its messages (below 126 bytes) back.
 */
export const TUNNEL_SERVER = `
import base64, hashlib, socket, threading
BLOCK = bytes(1 << 20)
threading.stack_size(1 << 18)

def skip(stream, left):
    while left:
        data = stream.read(min(left, 1 << 20))
        if not data: raise ConnectionError
        left -= len(data)

def body(stream, headers):
    total = int(headers.get("content-length", "0"))
    if headers.get("transfer-encoding") != "chunked":
        skip(stream, total)
        return total
    while (size := int(stream.readline().split(b";")[0], 16)):
        skip(stream, size)
        stream.readline()
        total += size
    stream.readline()
    return total

def websocket(client, stream, key):
    accept = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    client.sendall(f"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: {accept}\\r\\n\\r\\n".encode())
    while (head := stream.read(2)) and head[0] & 15 != 8:
        mask = stream.read(4)
        data = stream.read(head[1] & 127)
        client.sendall(bytes([0x80 | head[0] & 15, len(data)]) + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))

def request(client, stream):
    first = stream.readline().decode().split(" ")
    if len(first) < 2: return False
    headers = {}
    while (line := stream.readline().decode().strip()):
        name, value = line.split(": ", 1)
        headers[name.lower()] = value
    if "sec-websocket-key" in headers:
        websocket(client, stream, headers["sec-websocket-key"])
        return False
    if "expect" in headers:
        client.sendall(b"HTTP/1.1 100 Continue\\r\\n\\r\\n")
    if first[1].startswith("/bytes"):
        mib = int(first[1].split("=")[1])
        client.sendall(f"HTTP/1.1 200 OK\\r\\nContent-Length: {mib << 20}\\r\\n\\r\\n".encode())
        for _ in range(mib): client.sendall(BLOCK)
    else:
        answer = str(body(stream, headers))
        client.sendall(f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(answer)}\\r\\n\\r\\n{answer}".encode())
    return headers.get("connection") != "close"

def serve(client):
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        stream = client.makefile("rb", 1 << 18)
        while request(client, stream): pass
    except OSError:
        pass
    finally:
        stream.close()
        client.close()

def listen(port):
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("0.0.0.0", port))
    server.listen(1024)
    while True: threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

threading.Thread(target=listen, args=(${TUNNEL_PORTS.published},), daemon=True).start()
listen(${TUNNEL_PORTS.tunnel})
`;
