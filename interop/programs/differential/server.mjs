// Node as a server: says of each request what it read, in a field of the answer.
import { createServer } from 'node:http';

const server = createServer((request, answer) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece));
  request.on('end', () => {
    const read = `${request.method} ${request.url} =${Buffer.concat(pieces).toString('hex')}`;
    answer.writeHead(200, { 'X-Read': read, 'Content-Length': 0 });
    answer.end();
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
