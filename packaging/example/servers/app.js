// For node.ini: serves on the socket that trimtab hands down as descriptor 3. Each request makes a
// burst of objects, keeps a few, and checks an older one.
"use strict";
const http = require("node:http");

const kept = [];
const random = (n) => Math.floor(Math.random() * n);

function work() {
  const first = random(1e6);
  const rows = Array.from({ length: 400 }, (_, i) => (
    { id: first + i, name: `name ${first + i}`, tags: [String(i), i * 1.5, null] }));
  const text = JSON.stringify(rows);
  if (JSON.stringify(JSON.parse(text)) !== text) throw new Error("rows changed on the way");
  const buffers = Array.from({ length: 100 }, (_, i) => Buffer.alloc(600 + random(60000), i));
  kept.push([rows[0], buffers[random(100)]]);
  if (kept.length > 50) {
    const [row, buffer] = kept.splice(random(50), 1)[0];
    if (row.name !== `name ${row.id}` || buffer.some((byte) => byte !== buffer[0]))
      throw new Error(`a survivor changed: ${row.name}`);
  }
  return `${process.pid}\n`;
}

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/plain");
  try {
    response.end(work());
  } catch (error) {
    response.statusCode = 500;
    response.end(`${error}\n`);
  }
});

server.listen({ fd: 3 });
process.on("SIGTERM", () => server.close(() => process.exit(0)));
