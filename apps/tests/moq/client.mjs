// An unmodified MoQ client: the npm package @moq/net in headless Chromium reads and plays a broadcast.
//
//   npm ci --ignore-scripts
//   node client.mjs https://HOST:PORT/ HASH NAME [GROUPS]
//
// HASH is the SHA-256 of the server's certificate, "" where an authority has signed it. Prints one JSON object: the
// version of the wire, the broadcasts announced, the catalog, each access unit of the first GROUPS groups with its media
// time and SHA-256, and how many frames were decoded. Exit status 2: there is no Chromium.
import { spawn } from "node:child_process";
import { readFile, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { extname, join, normalize } from "node:path";

const TIME_MAX_MS = 60_000;
const BROWSERS = [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"].filter(Boolean);

const [url, hash, name, groups = "3"] = process.argv.slice(2);
const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;

// What a bundler would do: the browser finds the packages by these names.
const imports = {
    "@moq/net": "@moq/net/index.js",
    "@moq/qmux": "@moq/qmux/index.js",
    "@moq/signals": "@moq/signals/index.js",
    "@moq/web-socket-stream": "@moq/web-socket-stream/index.js",
    "async-mutex": "async-mutex/index.mjs",
    bowser: "bowser/bowser.mjs",
    "@zod/mini": "@zod/mini/index.js",
    "zod/mini": "zod/mini/index.js",
};
for (const key in imports) imports[key] = `/node_modules/${imports[key]}`;
const page = `<!doctype html><meta charset="utf-8"><script type="importmap">${JSON.stringify({ imports })}</script>
<script>onerror = (error) => fetch("/answer", { method: "POST", body: JSON.stringify({ error }) });</script>
<canvas></canvas><script type="module" src="/page.mjs"></script>`;

/// The page, its modules, what it is to do, and where it answers.
function serve(answered) {
    const types = { ".js": "text/javascript", ".mjs": "text/javascript" };
    return createServer(async (request, response) => {
        const send = (status, type, body) => response.writeHead(status, { "content-type": type }).end(body);
        if (request.method === "POST") {
            let text = "";
            for await (const part of request) text += part;
            send(200, "text/plain", "");
            return answered(JSON.parse(text));
        }
        if (request.url === "/") return send(200, "text/html", page);
        if (request.url === "/task") {
            return send(200, "application/json", JSON.stringify({ url, hash, name, groups: Number(groups) }));
        }
        const file = join(here, normalize(request.url));
        const body = await readFile(file).catch(() => null);
        send(body ? 200 : 404, types[extname(file)] ?? "text/plain", body ?? "");
    });
}

/// Starts the first browser that is there.
async function browse(address, profile) {
    const flags = ["--headless=new", "--disable-gpu", "--no-first-run", `--user-data-dir=${profile}`];
    // Chromium's sandbox does not run as root.
    if (process.getuid?.() === 0) flags.push("--no-sandbox");
    for (const browser of BROWSERS) {
        const child = spawn(browser, [...flags, address], { stdio: "ignore", detached: true });
        const started = await new Promise((resolve) => {
            child.once("spawn", () => resolve(true));
            child.once("error", () => resolve(false));
        });
        if (started) return child;
    }
    return null;
}

const profile = await mkdtemp(join(tmpdir(), "hone-moq-"));
let status = 1;
let child;
try {
    const answer = await new Promise(async (resolve, reject) => {
        setTimeout(() => reject(new Error(`no answer in ${TIME_MAX_MS} ms`)), TIME_MAX_MS).unref();
        const server = serve(resolve).listen(0, "127.0.0.1", async () => {
            child = await browse(`http://127.0.0.1:${server.address().port}/`, profile);
            if (!child) resolve(null);
            child?.once("exit", () => reject(new Error("Chromium has ended")));
        });
    });
    if (!answer) {
        console.error("Chromium is not installed");
        status = 2;
    } else if (answer.error) {
        console.error(answer.error);
    } else {
        console.log(JSON.stringify(answer));
        status = 0;
    }
} catch (error) {
    console.error(error.message);
} finally {
    child?.removeAllListeners("exit");
    // It has processes of its own.
    if (child) process.kill(-child.pid, "SIGKILL");
    await rm(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 }).catch(() => {});
}
process.exit(status);
