/** A WebSocket echo server in python's standard library; messages below 126 bytes. */
export const WEBSOCKET_SERVER = `
import base64, hashlib, socket
server = socket.socket(); server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("0.0.0.0", 9000)); server.listen(16)
while True:
    client, _ = server.accept(); stream = client.makefile("rwb"); key = b""
    while (line := stream.readline().strip()):
        if line.lower().startswith(b"sec-websocket-key:"): key = line.split(b":", 1)[1].strip()
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    stream.write(b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n")
    stream.flush()
    while (head := stream.read(2)) and head[0] & 15 != 8:
        length = head[1] & 127; mask = stream.read(4); data = stream.read(length)
        stream.write(bytes([0x81, length]) + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))); stream.flush()
    client.close()
`;
