// node with `ws`: one send() a message and client; with --corked the sends of one tick leave in one write.
'use strict';
const { WebSocketServer } = require('ws');

const option = (name, fallback) => {
  const at = process.argv.indexOf('--' + name);
  return at < 0 ? fallback : Number(process.argv[at + 1]);
};
const corked = process.argv.includes('--corked');
const load = option('load', 0), periodMs = option('period', 0) * 1000, repeat = option('repeat', 1);
const topics = Array.from({ length: option('topics', 1) }, (_, i) => 'price.T' + String(i).padStart(3, '0'));
const subscribers = new Map(topics.map((topic) => [topic, new Set()]));
const PAYLOAD_BYTES = 171, SHORTEST_PERIOD_MS = 5, LONGEST_PERIOD_MS = 2000, FIRST_PERIOD_MS = 250;

const server = new WebSocketServer({ host: '127.0.0.1', port: option('port'), perMessageDeflate: false, backlog: 4096 });
server.on('connection', (client, request) => {
  const wanted = request.url.split('topics=')[1].split(',');
  for (const topic of wanted) subscribers.get(topic).add(client);
  client.on('close', () => wanted.forEach((topic) => subscribers.get(topic).delete(client)));
});

const text = (topic, stamp) => {
  const head = `{"t":${stamp},"topic":"${topic}","x":"`;
  return Buffer.from(head + 'x'.repeat(PAYLOAD_BYTES - head.length - 2) + '"}');
};

const publishAll = () => {
  const stamp = process.hrtime.bigint();
  const touched = new Set();
  for (const topic of topics)
    for (let i = 0; i < repeat; i++) {
      const message = text(topic, stamp);
      for (const client of subscribers.get(topic)) {
        if (corked && !touched.has(client)) {
          client._socket.cork();
          touched.add(client);
        }
        client.send(message, { binary: false });
      }
    }
  for (const client of touched) client._socket.uncork();
};

// The pace of pacing.py: the cost of a tick is the median CPU time of the last three.
const cpuMs = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
const spentMs = Array(3).fill(FIRST_PERIOD_MS * load);
let tickCpu = cpuMs(), tickBegan = performance.now();
const wait = () => {
  const price = [...spentMs].sort((a, b) => a - b)[1];
  const period = periodMs || Math.min(Math.max(SHORTEST_PERIOD_MS, price / load), LONGEST_PERIOD_MS);
  setTimeout(tick, Math.max(0, tickBegan + period - performance.now()));
};
const tick = () => {
  const cpu = cpuMs();
  spentMs.push(cpu - tickCpu);
  spentMs.shift();
  tickCpu = cpu;
  tickBegan = performance.now();
  publishAll();
  wait();
};
if (load || periodMs) wait();
