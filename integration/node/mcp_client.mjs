// Clients of the official MCP SDKs for JavaScript over streamable HTTP, and mcp-remote over standard input and output. What
// it reads and writes is what the clients in Python read and write (`shared.run`): lines of JSON, each of which names a
// conversation.
//
// Options of a conversation: URL [--sdk 1|2|remote]

import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";

const ANSWER_LIMIT_MS = 20_000;
const ABOUT = { name: "colorfast-clients", version: "1" };

// Packages are installed apart from the scripts, where NODE_PATH names them; `import` does not look there, `require` does.
const require = createRequire(import.meta.url);

// What holds the settings of mcp-remote, which by itself takes the home folder.
const home = mkdtempSync(join(tmpdir(), "colorfast-mcp-remote-"));
process.on("exit", () => rmSync(home, { recursive: true, force: true }));

function first(path) {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const { StreamableHTTPClientTransport } = require("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const transport = new StreamableHTTPClientTransport(new URL(path));
  return { client: new Client(ABOUT), transport, held: () => transport.sessionId };
}

function second(path) {
  const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
  const transport = new StreamableHTTPClientTransport(new URL(path));
  const client = new Client(ABOUT);
  return { client, transport, held: () => transport.sessionId };
}

function remote(path) {
  const { Client } = require("@modelcontextprotocol/sdk/client/index.js");
  const { StdioClientTransport } = require("@modelcontextprotocol/sdk/client/stdio.js");
  const script = join(process.env.NODE_PATH, "mcp-remote/dist/proxy.js");
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [script, path, "--allow-http", "--transport", "http-only"],
    env: { ...process.env, MCP_REMOTE_CONFIG_DIR: mkdtempSync(join(home, "talk-")) },
    stderr: "ignore",
  });
  return { client: new Client(ABOUT), transport, held: () => undefined };
}

const ways = { 1: first, 2: second, remote };

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

class Conversation {
  constructor(name, args) {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { sdk: { type: "string", default: "1" } },
    });
    this.name = name;
    this.sdk = values.sdk;
    this.url = positionals[0];
    this.said = [];
    this.broken = false;
    this.done = this.open();
  }

  // So many turns more; a conversation that broke makes none.
  order(turns) {
    this.done = this.done.then(() => this.talk(turns));
  }

  async open() {
    const { client, transport, held } = ways[this.sdk](this.url);
    await client.connect(transport);
    Object.assign(this, { client, held });
  }

  async talk(turns) {
    for (let ordered = 0; ordered < turns && !this.broken; ordered += 1) {
      const turn = this.said.push(`turn ${this.said.length + 1}`);
      try {
        const heard = await this.say(this.said.at(-1));
        const kept = JSON.stringify(heard.said) === JSON.stringify(this.said);
        tell({ talk: this.name, turn, bundle: heard.bundle, session: heard.session, held: this.held(), kept });
      } catch (error) {
        tell({ talk: this.name, broken: error.message, turn });
        this.broken = true;
        await this.client.close();
      }
    }
  }

  async say(text) {
    // Where arguments end differs between the two SDKs.
    const limit = { timeout: ANSWER_LIMIT_MS };
    const request = { name: "say", arguments: { text } };
    const answer = await (this.sdk === "2"
      ? this.client.callTool(request, limit)
      : this.client.callTool(request, undefined, limit));
    if (answer.isError || answer.structuredContent === undefined) {
      throw new Error(`no answer: ${JSON.stringify(answer.content)}`);
    }
    return answer.structuredContent;
  }
}

const talks = new Map();
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  if (order.begin !== undefined) {
    talks.set(order.begin, new Conversation(order.begin, order.options));
  } else {
    for (const name of order.go_on) {
      talks.get(name).order(order.turns);
    }
  }
}
process.exit(0);
