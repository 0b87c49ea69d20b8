'use strict';
// Makes or uses one passkey for the command line that opened this page.
//
// The request comes in the URL's fragment, which no server sees. The result goes to a port of this machine, sealed to
// a one-time key of the request: see docs/passkeys.md, "The bridge". It never goes anywhere else, whatever the request says.
(() => {
  const at = (id) => document.getElementById(id);
  const text = new TextEncoder();
  const bytes = (base64url) =>
    Uint8Array.from(atob(base64url.replace(/-/g, '+').replace(/_/g, '/')), (char) => char.charCodeAt(0));
  const base64url = (buffer) => {
    let binary = '';
    for (const byte of new Uint8Array(buffer)) binary += String.fromCharCode(byte);
    return btoa(binary).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
  };

  const WORDS = {
    create: {
      title: 'Make a passkey for your wallet backup',
      what: 'Your browser will ask you to make a passkey. With it you can get your wallet back on another device.',
      go: 'Make a passkey',
    },
    get: {
      title: 'Use your passkey for your wallet backup',
      what: 'Your browser will ask for the passkey of your wallet backup and check that it is you.',
      go: 'Use my passkey',
    },
  };

  const fits = (request) =>
    request.v === 1
    && Object.hasOwn(WORDS, request.op)
    && Number.isInteger(request.port) && request.port > 1023 && request.port < 65536
    && bytes(request.state).length === 32
    && bytes(request.key).length === 65
    && bytes(request.challenge).length === 32
    && Array.isArray(request.credentials)
    && typeof request.rpId === 'string';

  const seal = async (request, transcript, result) => {
    const curve = { name: 'ECDH', namedCurve: 'P-256' };
    const theirs = await crypto.subtle.importKey('raw', bytes(request.key), curve, false, []);
    const ours = await crypto.subtle.generateKey(curve, false, ['deriveBits']);
    const encapsulated = new Uint8Array(await crypto.subtle.exportKey('raw', ours.publicKey));
    const shared = await crypto.subtle.deriveBits({ name: 'ECDH', public: theirs }, ours.privateKey, 256);
    const tag = text.encode('halfkey/passkey-bridge/v1');
    const info = new Uint8Array(tag.length + encapsulated.length);
    info.set(tag);
    info.set(encapsulated, tag.length);
    const input = await crypto.subtle.importKey('raw', shared, 'HKDF', false, ['deriveKey']);
    const derivation = { name: 'HKDF', hash: 'SHA-256', salt: transcript, info };
    const key = await crypto.subtle.deriveKey(derivation, input, { name: 'AES-GCM', length: 256 }, false, ['encrypt']);
    // The key is made for this one message, so its nonce may be zero.
    const nonce = { name: 'AES-GCM', iv: new Uint8Array(12) };
    const plain = text.encode(JSON.stringify(result));
    const sealed = new Uint8Array(await crypto.subtle.encrypt(nonce, key, plain));
    plain.fill(0);
    const message = new Uint8Array(encapsulated.length + sealed.length);
    message.set(encapsulated);
    message.set(sealed, encapsulated.length);
    return base64url(message);
  };

  const answer = async (request, transcript, result) => {
    const form = document.createElement('form');
    form.method = 'post';
    form.action = `http://127.0.0.1:${request.port}/passkey`;
    for (const [name, value] of [['state', request.state], ['sealed', await seal(request, transcript, result)]]) {
      const input = document.createElement('input');
      input.type = 'hidden';
      input.name = name;
      input.value = value;
      form.append(input);
    }
    document.body.append(form);
    form.submit();
  };

  const descriptors = (request) => request.credentials.map(({ id, transports }) => {
    const descriptor = { type: 'public-key', id: bytes(id) };
    return transports.length ? { ...descriptor, transports } : descriptor;
  });

  const create = async (request, extensions, signal) => {
    const credential = await navigator.credentials.create({ signal, publicKey: {
      rp: { id: request.rpId, name: request.rpName },
      user: { id: bytes(request.userHandle), name: request.userName, displayName: request.userName },
      challenge: bytes(request.challenge),
      pubKeyCredParams: [-7, -8, -257].map((alg) => ({ type: 'public-key', alg })),
      excludeCredentials: descriptors(request),
      authenticatorSelection: { residentKey: 'required', requireResidentKey: true, userVerification: 'required' },
      attestation: 'none',
      timeout: 240000,
      extensions,
    } });
    const prf = credential.getClientExtensionResults().prf;
    return {
      credentialId: base64url(credential.rawId),
      attestationObject: base64url(credential.response.attestationObject),
      clientDataJson: base64url(credential.response.clientDataJSON),
      transports: credential.response.getTransports?.() ?? [],
      prfEnabled: prf?.enabled === true,
      prf: prf?.results?.first ? base64url(prf.results.first) : null,
    };
  };

  const get = async (request, extensions, signal) => {
    const credential = await navigator.credentials.get({ signal, publicKey: {
      rpId: request.rpId,
      challenge: bytes(request.challenge),
      allowCredentials: descriptors(request),
      userVerification: 'required',
      timeout: 240000,
      extensions,
    } });
    const { authenticatorData, clientDataJSON, signature, userHandle } = credential.response;
    const prf = credential.getClientExtensionResults().prf?.results?.first;
    if (request.prf && !prf) return { error: 'PRF_UNSUPPORTED' };
    return {
      credentialId: base64url(credential.rawId),
      authenticatorData: base64url(authenticatorData),
      clientDataJson: base64url(clientDataJSON),
      signature: base64url(signature),
      userHandle: userHandle && userHandle.byteLength ? base64url(userHandle) : null,
      prf: prf ? base64url(prf) : null,
    };
  };

  // Errors that another attempt can mend stay here; the others go to the command line at once.
  const fatal = (error) => ({
    InvalidStateError: 'ALREADY_REGISTERED',
    SecurityError: 'NOT_AVAILABLE',
    NotSupportedError: 'NOT_AVAILABLE',
    ConstraintError: 'NOT_AVAILABLE',
  })[error?.name];

  const attempt = async (request, signal) => {
    if (!window.PublicKeyCredential || !navigator.credentials) return { error: 'NOT_AVAILABLE' };
    const capable = await PublicKeyCredential.getClientCapabilities?.();
    if (request.prf && capable?.['extension:prf'] === false) return { error: 'PRF_UNSUPPORTED' };
    const extensions = request.prf ? { prf: { eval: { first: bytes(request.prf) } } } : {};
    return request.op === 'create' ? create(request, extensions, signal) : get(request, extensions, signal);
  };

  const start = async () => {
    const fragment = location.hash.slice(1);
    if (!fragment) return;
    // What is in the fragment stays in no history.
    history.replaceState(null, '', location.pathname);
    let request;
    try {
      request = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes(fragment)));
      if (!fits(request)) throw new Error();
    } catch {
      at('error').textContent = 'This address is damaged. Start again at the command line.';
      return;
    }
    const transcript = new Uint8Array(await crypto.subtle.digest('SHA-256', text.encode(fragment)));
    const code = String(new DataView(transcript.buffer).getUint32(0) % 1000000).padStart(6, '0');
    const words = WORDS[request.op];
    document.title = words.title;
    at('title').textContent = words.title;
    at('what').textContent = words.what;
    at('wallet').textContent = String(request.wallet).slice(0, 200);
    at('rp').textContent = request.rpId;
    at('code').textContent = `${code.slice(0, 3)} ${code.slice(3)}`;
    at('error').textContent = '';
    at('status').textContent = '';
    at('none').hidden = true;
    const busy = (is) => [at('go'), at('none')].forEach((button) => { button.disabled = is; });
    let sheet = new AbortController();
    let finished = false;
    const finish = async (result) => {
      if (finished) return;
      finished = true;
      busy(true);
      at('cancel').disabled = true;
      at('error').textContent = '';
      at('status').textContent = 'Handing over to the command line…';
      await answer(request, transcript, result);
    };
    at('go').textContent = words.go;
    at('go').onclick = async () => {
      busy(true);
      at('error').textContent = '';
      at('status').textContent = 'Waiting for your browser and your passkey…';
      sheet = new AbortController();
      let result;
      try {
        result = await attempt(request, sheet.signal);
      } catch (error) {
        if (finished) return;
        const reason = fatal(error);
        if (!reason) {
          at('status').textContent = '';
          at('error').textContent = request.op === 'get'
            ? 'Cancelled, timed out, or no passkey here fits. Nothing was changed. You can try again.'
            : 'Cancelled, timed out, or your device could not check that it is you. Nothing was changed. You can try again.';
          at('none').hidden = request.op !== 'get';
          at('go').textContent = 'Try again';
          busy(false);
          at('go').focus();
          return;
        }
        result = { error: reason };
      }
      await finish(result);
    };
    at('none').onclick = () => finish({ error: 'NO_PASSKEY' });
    at('cancel').onclick = async () => {
      const done = finish({ error: 'CANCELLED' });
      sheet.abort();
      await done;
    };
    for (const id of ['facts', 'caution', 'actions']) at(id).hidden = false;
    busy(false);
    at('cancel').disabled = false;
    at('go').focus();
  };

  window.addEventListener('hashchange', start);
  start();
})();
