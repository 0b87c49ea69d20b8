// Google's own JavaScript client against the emulator: the same as google_client.py, call by call, so that the test can
// ask both for the same answers.
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { auth, drive } from "@googleapis/drive";

const given = JSON.parse(await text(process.stdin));
const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
const backwards = Buffer.from(every).reverse();
const contents = [every, Buffer.concat(Array(40).fill(every)), ..."\r|\n|ends with\r\n|--=|x".split("|").map((one) => Buffer.from(one))];
// The address must be given at each call: in the client's options it is ignored.
const here = { rootUrl: given.rootUrl, retry: false };
const bytes = { ...here, responseType: "arraybuffer" };

function files(token) {
  const oauth = new auth.OAuth2();
  oauth.setCredentials({ access_token: token });
  return drive({ version: "v3", auth: oauth });
}

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    let body = error.response?.data;
    if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) body = JSON.parse(Buffer.from(body).toString());
    if (typeof body === "string") body = JSON.parse(body);
    if (!body) throw error;
    const { reason, domain } = body.error.errors[0];
    return { status: error.response.status, reason, domain };
  }
  return null;
}

const media = (content) => ({ mimeType: "application/octet-stream", body: Readable.from([content]) });
const body = (name, id) => ({ name, parents: ["appDataFolder"], ...(id ? { id } : {}) });

async function fail(calls, answer, more = {}) {
  const command = { op: "fail", calls, answer, times: 1, ...more };
  const answered = await fetch(`${given.rootUrl}emulator`, { method: "POST", body: JSON.stringify(command) });
  if (answered.status !== 200) throw new Error(await answered.text());
}

const main = files(given.main);

async function names(how) {
  const pages = [];
  let pageToken;
  do {
    const { data } = await main.files.list({ spaces: "appDataFolder", fields: "*", pageToken, ...how }, here);
    if (data.incompleteSearch !== false) throw new Error("incomplete");
    pages.push(data.files.map((file) => file.name));
    pageToken = data.nextPageToken;
  } while (pageToken);
  return pages;
}

async function intact(fileId, content) {
  return Buffer.from((await main.files.get({ fileId, alt: "media" }, bytes)).data).equals(content);
}

const seen = {};
seen.email = (await main.about.get({ fields: "user(emailAddress)" }, here)).data.user.emailAddress;

const { data: generated } = await main.files.generateIds({ space: "appDataFolder", count: contents.length }, here);
const ids = generated.ids;
seen.generated = [generated.space, new Set(ids).size];
seen.made = [];
for (const [at, content] of contents.entries()) {
  const { data } = await main.files.create({ requestBody: body(`n${at}`, ids[at]), media: media(content) }, here);
  seen.made.push([data.id === ids[at], data.name, data.mimeType]);
}
seen.intact = [];
for (const [at, content] of contents.entries()) seen.intact.push(await intact(ids[at], content));
const { data: metadata } = await main.files.get({ fileId: ids[0], fields: "size,sha256Checksum,parents,trashed" }, here);
metadata.sha256Checksum = metadata.sha256Checksum === createHash("sha256").update(every).digest("hex");
seen.metadata = metadata;
seen.sameIdAgain = await refusal(() => main.files.create({ requestBody: body("other", ids[0]), media: media(every) }, here));
seen.inventedId = await refusal(() => main.files.create({ requestBody: body("other", "1invented"), media: media(every) }, here));
seen.stillIntact = await intact(ids[0], every);

seen.pages = await names({ pageSize: 3 });
seen.found = await names({ q: "name = 'n2' and trashed = false" });
seen.otherSpace = await refusal(() => main.files.list({}, here));
seen.visible = (await files(given.visible).files.list({}, here)).data.files;

const { data: changed } = await main.files.update({ fileId: ids[1], media: media(backwards) }, here);
seen.changed = [changed.name, await intact(ids[1], backwards)];
seen.renamed = (await main.files.update({ fileId: ids[1], requestBody: { name: "renamed" } }, here)).data.name;
seen.toTheBin = await refusal(() => main.files.update({ fileId: ids[1], requestBody: { trashed: true } }, here));

seen.deleted = (await main.files.delete({ fileId: ids[0] }, here)).status === 204;
seen.readDeleted = await refusal(() => main.files.get({ fileId: ids[0], alt: "media" }, bytes));
seen.deletedAgain = await refusal(() => main.files.delete({ fileId: ids[0] }, here));

seen.revoked = await refusal(() => files(given.revoked).files.list({ spaces: "appDataFolder" }, here));
seen.unscoped = await refusal(() => files(given.unscoped).files.list({ spaces: "appDataFolder" }, here));
seen.full = await refusal(() => files(given.full).files.create({ requestBody: body("big"), media: media(every) }, here));

// What the client itself takes for an error that passes: it asks again without being told to.
seen.retried = [];
for (const answer of ["tooManyRequests", "backendError", "internalError"]) {
  await fail("metadata", answer);
  const retryConfig = { retry: 1, retryDelay: 1 };
  const { data, config } = await main.files.get({ fileId: ids[2] }, { rootUrl: given.rootUrl, retry: true, retryConfig });
  seen.retried.push([answer, data.name, config.retryConfig.currentRetryAttempt]);
}
await fail("metadata", "dailyLimitExceeded");
seen.notRetried = await refusal(() => main.files.get({ fileId: ids[2] }, { rootUrl: given.rootUrl, retry: true }));
console.log(JSON.stringify(seen));
