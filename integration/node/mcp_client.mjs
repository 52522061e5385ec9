// A client of the official MCP SDKs for JavaScript that holds one conversation over streamable HTTP, or by mcp-remote over
// standard input and output. It tells what the clients in Python tell (`shared.converse`): one line of JSON a turn.
//
// mcp_client.mjs URL [--sdk 1|2|remote] [--turns N] [--pause SECONDS] [--burst N]

import { createRequire } from "node:module";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const ANSWER_LIMIT_MS = 20_000;
const ABOUT = { name: "colorfast-clients", version: "1" };

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sdk: { type: "string", default: "1" },
    turns: { type: "string", default: "0" },
    pause: { type: "string", default: "0.01" },
    burst: { type: "string", default: "1" },
  },
});
const url = positionals[0];
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
    env: { ...process.env, MCP_REMOTE_CONFIG_DIR: home },
    stderr: "ignore",
  });
  return { client: new Client(ABOUT), transport, held: () => undefined };
}

const ways = { 1: first, 2: second, remote };

function tell(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function converse() {
  const { client, transport, held } = ways[options.sdk](url);
  await client.connect(transport);
  const call = async (name, given) => {
    // Where arguments end differs between the two SDKs.
    const limit = { timeout: ANSWER_LIMIT_MS };
    const request = { name, arguments: given };
    const answer = await (options.sdk === "2" ? client.callTool(request, limit) : client.callTool(request, undefined, limit));
    if (answer.isError || answer.structuredContent === undefined) {
      throw new Error(`no answer: ${JSON.stringify(answer.content)}`);
    }
    return answer.structuredContent;
  };
  const turns = Number(options.turns) || Infinity;
  const said = [];
  for (let turn = 1; turn <= turns; turn += 1) {
    said.push(`turn ${turn}`);
    try {
      const heard = await call("say", { text: `turn ${turn}` });
      const kept = JSON.stringify(heard.said) === JSON.stringify(said);
      tell({ turn, bundle: heard.bundle, session: heard.session, held: held(), kept });
    } catch (error) {
      tell({ broken: error.message, turn });
      process.exitCode = 1;
      break;
    }
    if (turn % Number(options.burst) === 0) {
      await sleep(Number(options.pause) * 1000);
    }
  }
  await client.close();
}

await converse();
