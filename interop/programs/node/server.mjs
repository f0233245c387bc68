// An origin with Node's http module; the paths are those of the Go origin.
//
// node server.mjs PORT [HOST]
import http from "node:http";

const PERIOD = 251;
const block = Buffer.from(Array.from({ length: PERIOD * 256 }, (_, i) => i % PERIOD));

function answer(reply, value) {
  const text = JSON.stringify(value);
  reply.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) });
  reply.end(text);
}

async function post(request, reply) {
  let length = 0, sum = 0, text = "";
  for await (const chunk of request) {
    for (const byte of chunk) sum = (sum + byte) & 0xffffff;
    if (length + chunk.length <= 1024) text += chunk.toString();
    length += chunk.length;
  }
  answer(reply, { data: text, length, sum, headers: request.headers });
}

async function stream(total, reply) {
  reply.writeHead(200, { "Content-Type": "application/octet-stream", "X-Pattern": `mod${PERIOD}` });
  for (let sent = 0; sent < total; ) {
    const piece = block.subarray(0, Math.min(block.length, total - sent));
    sent += piece.length;
    if (!reply.write(piece)) await new Promise((resolve) => reply.once("drain", resolve));
  }
  reply.end();
}

http
  .createServer((request, reply) => {
    const url = new URL(request.url, "http://origin");
    const bytes = url.pathname.match(/^\/stream-bytes\/(\d+)$/);
    if (url.pathname === "/get") {
      answer(reply, { method: request.method, url: request.url, headers: request.headers, args: Object.fromEntries(url.searchParams) });
    } else if (url.pathname === "/post" && request.method === "POST") {
      post(request, reply).catch(() => reply.destroy());
    } else if (bytes) {
      stream(Number(bytes[1]), reply);
    } else {
      reply.writeHead(404).end();
    }
  })
  .listen(Number(process.argv[2]), process.argv[3] ?? "127.0.0.1");
