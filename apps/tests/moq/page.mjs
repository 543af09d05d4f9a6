// In the browser: @moq/net lists the broadcasts of a server or relay, reads catalog and video of one, and plays it.
import * as Moq from "@moq/net";

// Who lists broadcasts hears of each once; after this much silence the list is whole.
const QUIET_MS = 500;

const hex = (bytes) => [...new Uint8Array(bytes)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/// The broadcasts there are, once one of `name` is among them: NAME/INSTANCE.
async function list(connection, name) {
    const live = new Set();
    const announced = connection.announced();
    for (let next = announced.next(); ; ) {
        const found = [...live].some((path) => path.startsWith(`${name}/`));
        const quiet = new Promise((resolve) => found && setTimeout(resolve, QUIET_MS));
        const event = await Promise.race([next, quiet]);
        if (!event) return [...live].sort();
        live[event.active ? "add" : "delete"](event.path);
        next = announced.next();
    }
}

/// The kinds of NAL units in an access unit: 7 a sequence's and 8 a picture's parameters, 5 a slice of an IDR picture.
function kinds(unit) {
    const found = [];
    for (let at = 0; at + 3 < unit.length; at++) {
        if (unit[at] === 0 && unit[at + 1] === 0 && unit[at + 2] === 1) found.push(unit[at + 3] & 31);
    }
    return found;
}

/// Decodes into the page's canvas, and counts.
function player({ codec, codedWidth, codedHeight }) {
    const canvas = document.querySelector("canvas");
    Object.assign(canvas, { width: codedWidth, height: codedHeight });
    const played = { frames: 0, error: null };
    const decoder = new VideoDecoder({
        output(frame) {
            canvas.getContext("2d").drawImage(frame, 0, 0);
            frame.close();
            played.frames++;
        },
        error: (error) => (played.error = String(error)),
    });
    // No description: the parameter sets come in band, in Annex B.
    decoder.configure({ codec, codedWidth, codedHeight, optimizeForLatency: true });
    return { decoder, played };
}

async function run({ url, hash, name, groups }) {
    const value = Uint8Array.from(hash.match(/../g) ?? [], (byte) => parseInt(byte, 16));
    const connection = await Moq.Connection.connect(new URL(url), {
        webtransport: hash ? { serverCertificateHashes: [{ algorithm: "sha-256", value }] } : {},
        websocket: { enabled: false },
    });
    const announced = await list(connection, name);
    const newest = announced.filter((path) => path.startsWith(`${name}/`)).pop();
    if (!newest) throw new Error(`the connection ended before there was ${name}`);
    const broadcast = connection.consume(newest);
    const catalog = await broadcast.subscribe("catalog.json").readJson();
    const { decoder, played } = player(catalog.video.renditions.video);

    const video = broadcast.subscribe("video", { priority: 150 });
    const units = [];
    for (let left = groups; left > 0; left--) {
        const group = await video.nextGroup();
        if (!group) break;
        for (let unit = await group.readFrameSequence(); unit; unit = await group.readFrameSequence()) {
            const { payload: data, sequence: index } = unit;
            const pts_us = unit.timestamp.asMicros();
            const sha256 = hex(await crypto.subtle.digest("SHA-256", data));
            units.push({ group: group.sequence, index, pts_us, kinds: kinds(data), bytes: data.length, sha256 });
            decoder.decode(new EncodedVideoChunk({ type: index ? "delta" : "key", timestamp: pts_us, data }));
        }
    }
    await decoder.flush();
    return { version: connection.version, announced, catalog, units, played };
}

const answer = await run(await (await fetch("/task")).json()).catch((error) => ({ error: `${error}\n${error.stack}` }));
await fetch("/answer", { method: "POST", body: JSON.stringify(answer) });
