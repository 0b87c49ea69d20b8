// A real OAuth server for the length of one test, oidc-provider, set up as Google's is for a desktop app: PKCE with S256
// is required, any port of loopback is a redirect address, the user may leave a scope out, and a refresh token comes
// without a scope of its own. Prints one JSON line with its address; ends with its standard input.
//
//   GET  /interaction/ID          the page that the user sees: "login" or "consent"
//   POST /interaction/ID/login    login=NAME             NAME is the account's `sub`
//   POST /interaction/ID/consent  drive=on               without it: signed in, but the folder stays closed
//   POST /interaction/ID/abort                           the user refuses
//   POST /control/ttl             seconds=N              how long access tokens live from now on
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import Provider from "oidc-provider";

const DRIVE = "https://www.googleapis.com/auth/drive.appdata";
// Google's ids begin with the number of the cloud project.
const APP = "100000000001-halfkey.apps.googleusercontent.com";
let ttl = 3600;

const server = createServer();
server.listen(0, "127.0.0.1");
await once(server, "listening");
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: APP,
      client_secret: "of a desktop app: no secret",
      application_type: "native",
      token_endpoint_auth_method: "client_secret_post",
      grant_types: ["authorization_code", "refresh_token"],
      redirect_uris: ["http://127.0.0.1/"],
    },
    {
      // The emulator of Google Drive, which asks what a token stands for.
      client_id: "drive",
      client_secret: "drive's own",
      token_endpoint_auth_method: "client_secret_post",
      grant_types: [],
      response_types: [],
      redirect_uris: [],
    },
  ],
  claims: { openid: ["sub"] },
  cookies: { keys: [randomBytes(32).toString("hex")] },
  features: { devInteractions: { enabled: false }, introspection: { enabled: true }, revocation: { enabled: true } },
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  pkce: { required: () => true },
  scopes: ["openid", DRIVE],
  ttl: { AccessToken: () => ttl, AuthorizationCode: 60, Grant: 86400, IdToken: 3600, Interaction: 600, RefreshToken: 86400, Session: 600 },
});

const page = (title, action, fields) =>
  `<!doctype html><meta charset="utf-8"><title>${title}</title><form method="post" action="${action}">${fields}</form>`;

async function interaction(request, response, uid, step) {
  const details = await provider.interactionDetails(request, response);
  if (details.uid !== uid) throw new Error("another interaction");
  const finish = (result) => provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
  const form = new URLSearchParams(request.method === "POST" ? await text(request) : "");
  if (request.method === "GET") {
    const here = `/interaction/${uid}`;
    const login = page("login", `${here}/login`, '<input id="login" name="login" autofocus><button id="go">Next</button>');
    const boxes = '<input id="drive" name="drive" type="checkbox" autofocus><button id="go">Continue</button>';
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(details.prompt.name === "login" ? login : page("consent", `${here}/consent`, boxes));
  } else if (step === "abort") {
    await finish({ error: "access_denied", error_description: "the user refused" });
  } else if (step === "login" && details.prompt.name === "login") {
    await finish({ login: { accountId: form.get("login") } });
  } else if (step === "consent" && details.prompt.name === "consent") {
    const grant = new provider.Grant({ accountId: details.session.accountId, clientId: details.params.client_id });
    grant.addOIDCScope("openid");
    if (form.get("drive") === "on") grant.addOIDCScope(DRIVE);
    else grant.rejectOIDCScope(DRIVE);
    await finish({ consent: { grantId: await grant.save() } });
  } else {
    throw new Error(`no ${step} now`);
  }
}

const handle = provider.callback();
server.on("request", async (request, response) => {
  const [, first, uid, step] = request.url.split("/");
  try {
    if (first === "interaction") return await interaction(request, response, uid, step);
    if (first === "control") {
      ttl = Number(new URLSearchParams(await text(request)).get("seconds"));
      return response.end();
    }
    return handle(request, response);
  } catch (error) {
    response.statusCode = 400;
    response.end(String(error));
  }
});

console.log(JSON.stringify({ issuer, clientId: APP }));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
