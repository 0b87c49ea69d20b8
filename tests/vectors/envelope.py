#!/usr/bin/env python3
"""Checks envelope.json, passkey.json, cloud.json and all_of.json with nothing but Python's standard library and docs/formats.md.

    python3 tests/vectors/envelope.py             every known answer, decoded and opened again
    python3 tests/vectors/envelope.py two-keys    prints two_keys.json: one ciphertext, good under two keys
"""
import hashlib
import hmac
import json
import pathlib
import struct
import sys
import uuid

HERE = pathlib.Path(__file__).parent
P = 2**130 - 5


def sha256(b):
    return hashlib.sha256(b).digest()


def extract(salt, ikm):
    return hmac.new(salt or bytes(32), ikm, hashlib.sha256).digest()


def expand(prk, info, length=32):
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + info + bytes([i]), hashlib.sha256).digest()
        out, i = out + block, i + 1
    return out[:length]


# RFC 8439
def chacha_block(key, counter, nonce):
    rot = lambda v, n: ((v << n) | (v >> (32 - n))) & 0xFFFFFFFF
    init = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    x = init[:]

    def quarter(a, b, c, d):
        x[a] = (x[a] + x[b]) & 0xFFFFFFFF; x[d] = rot(x[d] ^ x[a], 16)
        x[c] = (x[c] + x[d]) & 0xFFFFFFFF; x[b] = rot(x[b] ^ x[c], 12)
        x[a] = (x[a] + x[b]) & 0xFFFFFFFF; x[d] = rot(x[d] ^ x[a], 8)
        x[c] = (x[c] + x[d]) & 0xFFFFFFFF; x[b] = rot(x[b] ^ x[c], 7)

    for _ in range(10):
        for q in ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                  (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            quarter(*q)
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, init)))


def chacha(key, nonce, data):
    stream = b"".join(chacha_block(key, 1 + i, nonce) for i in range((len(data) + 63) // 64))
    return bytes(a ^ b for a, b in zip(data, stream))


def pad16(b):
    return b + bytes(-len(b) % 16)


def poly_key(key, nonce):
    block = chacha_block(key, 0, nonce)
    r = int.from_bytes(block[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    return r, int.from_bytes(block[16:32], "little")


def poly_blocks(aad, ct):
    return pad16(aad) + pad16(ct) + struct.pack("<QQ", len(aad), len(ct))


def poly(r, blocks):
    acc = 0
    for i in range(0, len(blocks), 16):
        acc = (acc + int.from_bytes(blocks[i:i + 16], "little") + 2**128) * r % P
    return acc


def aead_tag(key, nonce, aad, ct):
    r, s = poly_key(key, nonce)
    return ((poly(r, poly_blocks(aad, ct)) + s) % 2**128).to_bytes(16, "little")


def aead_open(key, nonce, aad, sealed):
    ct, tag = sealed[:-16], sealed[-16:]
    assert aead_tag(key, nonce, aad, ct) == tag, "tag"
    return chacha(key, nonce, ct)


# docs/formats.md, "The sealed form"
def derive(key, salt, head):
    prk, hh = extract(salt, key), sha256(head)
    return expand(prk, b"halfkey/envelope/v1/key" + hh), expand(prk, b"halfkey/envelope/v1/commit" + hh)


def unseal(key, magic, sealed):
    assert sealed[:4] == magic, "magic"
    head = sealed[:6 + int.from_bytes(sealed[4:6], "big")]
    body = len(head) + 64
    aead_key, commitment = derive(key, sealed[len(head):len(head) + 32], head)
    assert commitment == sealed[len(head) + 32:body], "commitment"
    return head[6:], aead_open(aead_key, bytes(12), sealed[:body], sealed[body:])


# RFC 8949, the deterministic subset that is used
def cbor_head(major, n):
    if n < 24:
        return bytes([major << 5 | n])
    size = 1 if n < 2**8 else 2 if n < 2**16 else 4 if n < 2**32 else 8
    return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + n.to_bytes(size, "big")


def cbor(v):
    if isinstance(v, int):
        return cbor_head(0, v) if v >= 0 else cbor_head(1, -1 - v)
    if isinstance(v, bytes):
        return cbor_head(2, len(v)) + v
    if isinstance(v, str):
        return cbor_head(3, len(v.encode())) + v.encode()
    if isinstance(v, list):
        return cbor_head(4, len(v)) + b"".join(map(cbor, v))
    return cbor_head(5, len(v)) + b"".join(cbor(k) + cbor(v[k]) for k in sorted(v, key=cbor))


def uncbor(b):
    """One item; encoding it again must give the same bytes."""
    def item(i):
        major, n, i = b[i] >> 5, b[i] & 31, i + 1
        if n >= 24:
            size = 1 << n - 24
            n, i = int.from_bytes(b[i:i + size], "big"), i + size
        if major == 2 or major == 3:
            assert i + n <= len(b)
            return (b[i:i + n] if major == 2 else b[i:i + n].decode()), i + n
        if major == 4 or major == 5:
            out = []
            for _ in range(n << (major == 5)):
                v, i = item(i)
                out.append(v)
            return (out if major == 4 else dict(zip(out[::2], out[1::2]))), i
        return (n, -1 - n)[major], i
    v, end = item(0)
    assert end == len(b) and cbor(v) == b, "not the one encoding"
    return v


# RFC 7748 and RFC 9180, base mode
def x25519(k, u):
    k = bytearray(k)
    k[0] &= 248; k[31] = k[31] & 127 | 64
    k, u, p = int.from_bytes(k, "little"), int.from_bytes(u, "little") & (2**255 - 1), 2**255 - 19
    x1, x2, z2, x3, z3 = u, 1, 0, u, 1
    for t in range(254, -1, -1):
        bit = k >> t & 1
        if bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a, c * b, a * a, b * b
        x3, z3 = (da + cb) ** 2 % p, x1 * (da - cb) ** 2 % p
        e = aa - bb
        x2, z2 = aa * bb % p, e * (aa + 121665 * e) % p
        if bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
    return (x2 * pow(z2, p - 2, p) % p).to_bytes(32, "little")


def labeled(suite, salt, label, ikm):
    return extract(salt, b"HPKE-v1" + suite + label + ikm)


def labeled_expand(suite, prk, label, info, n):
    return expand(prk, n.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, n)


def hpke_open(v):
    message, info, aad = (bytes.fromhex(v[k]) for k in ("message", "info", "aad"))
    return hpke_open_raw(v, message, info, aad)


def hpke_open_raw(v, message, info, aad):
    """`v` holds seed, secret_key and public_key."""
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"
    sk = labeled_expand(kem, labeled(kem, b"", b"dkp_prk", bytes.fromhex(v["seed"])), b"sk", b"", 32)
    sk = bytes([sk[0] & 248]) + sk[1:31] + bytes([sk[31] & 127 | 64])  # section 7.1.2: serialised clamped
    assert sk.hex() == v["secret_key"]
    pk = x25519(sk, (9).to_bytes(32, "little"))
    assert pk.hex() == v["public_key"]
    assert message[0] == 1
    enc, sealed = message[1:33], message[33:]
    shared = labeled_expand(kem, labeled(kem, b"", b"eae_prk", x25519(sk, enc)), b"shared_secret", enc + pk, 32)
    context = b"\0" + labeled(suite, b"", b"psk_id_hash", b"") + labeled(suite, b"", b"info_hash", info)
    secret = labeled(suite, shared, b"secret", b"")
    key = labeled_expand(suite, secret, b"key", context, 32)
    nonce = labeled_expand(suite, secret, b"base_nonce", context, 12)
    exporter = labeled_expand(suite, secret, b"exp", context, 32)
    answer_key = labeled_expand(suite, exporter, b"sec", b"halfkey/hpke/v1/answer", 32)
    return aead_open(key, nonce, aad, sealed), answer_key


def raw(text):
    return uuid.UUID(text).bytes


CURVES = {"SECP256K1": 1, "ED25519": 2}


def check():
    vectors = json.loads((HERE / "envelope.json").read_text())
    for v in vectors["seal"]:
        header, plaintext = unseal(bytes.fromhex(v["key"]), bytes.fromhex(v["magic"]), bytes.fromhex(v["sealed"]))
        assert (header.hex(), plaintext.hex()) == (v["header"], v["plaintext"])
    for v in vectors["client_share"]:
        envelope, file_key = bytes.fromhex(v["envelope"]), bytes.fromhex(v["file_key"])
        header, contents = unseal(file_key, b"HKE1", envelope)
        entries = [{1: CURVES[c["curve"]], 2: raw(c["wallet"]), 3: bytes.fromhex(c["public_key"]),
                    4: bytes.fromhex(c["chain_code"]), 5: bytes.fromhex(c["client_point"]),
                    6: bytes.fromhex(c["custodian_point"])} for c in v["curves"]]
        ids = raw(v["deployment"]), raw(v["client"]), raw(v["backup"])
        assert header == cbor({1: 1, 2: 1, 3: ids[0], 4: ids[1], 5: ids[2], 6: v["generation"], 7: v["method"], 8: entries})
        shares = [{1: CURVES[c["curve"]], 2: bytes.fromhex(c["share"])} for c in v["curves"]]
        assert contents == cbor({1: 1, 2: shares})
        assert sha256(envelope).hex() == v["digest"]
        known = [{1: e[1], 2: e[2], 3: e[3], 4: e[5], 5: e[4]} for e in entries]
        record = {1: 1, 2: ids[0], 3: ids[1], 4: ids[2], 5: v["method"], 6: file_key, 7: sha256(envelope), 8: known}
        assert bytes.fromhex(v["record"]) == cbor(record)
    for v in vectors["custodian"]:
        keys = bytes.fromhex(v["data_key"]) + bytes.fromhex(v["shred_key"])
        header, half = unseal(expand(extract(b"", keys), b"halfkey/custodian/v1/key"), b"HKC1", bytes.fromhex(v["sealed"]))
        c = v["context"]
        assert header == cbor({1: 1, 2: 1, 3: raw(c["deployment"]), 4: raw(c["client"]), 5: raw(c["wallet"]),
                               6: CURVES[c["curve"]], 7: raw(c["pair"]), 8: {"signing": 1, "backup": 2}[c["purpose"]]})
        assert half.hex() == v["half"]
    for v in vectors["hpke"]:
        plaintext, answer_key = hpke_open(v)
        assert plaintext.hex() == v["plaintext"]
        label, answer = unseal(answer_key, b"HKA1", bytes.fromhex(v["answer"]))
        assert (label.decode(), answer.hex()) == (v["answer_label"], v["answer_plaintext"])
    print("envelope.json: every known answer holds")


# docs/formats.md, "The passkey door"
def H(tag, *parts):
    return sha256(bytes([len(tag)]) + tag.encode() + b"".join(len(p).to_bytes(4, "big") + p for p in parts))


MODES = {"keeper": 1, "prf": 2, "keeper+prf": 3}


def context_of(v):
    return [raw(v["context"][k]) for k in ("deployment", "client", "backup")]


def stanza_open(v, keeper, stanza, credential, prf_output):
    """Opens keeper part, PRF part and record; gives the record and what is inside the keeper part."""
    wire, context = uncbor(stanza), context_of(v)
    assert wire[1] == 1 and len(stanza) <= 8192
    header, parts, inside = wire[2], [], None
    clear = uncbor(header)
    if 3 in wire:
        info = b"halfkey/keeper/v1/stanza/" + str(clear[5]).encode()
        inside = uncbor(hpke_open_raw(keeper, wire[3], info, header)[0])
        assert list(inside[3].values()) == context and (inside[4], inside[5]) == (clear[2], clear[3])
        parts.append(uncbor(inside[2]))
    if 4 in wire:
        ids = [c[1] for c in clear[4]]
        binding = H("halfkey/passkey/v1/prf", header, *context, credential)
        key = expand(extract(clear[6], prf_output), binding)
        bound, part = unseal(key, b"HKW1", wire[4][ids.index(credential)])
        assert bound == binding
        parts.append(uncbor(part))
    assert [p[3] for p in parts] == list(range(1, len(parts) + 1)) and all(p[4] == len(parts) for p in parts)
    assert len({p[2] for p in parts}) == 1
    bound, record = unseal(extract(parts[0][2], b"".join(p[5] for p in parts)), b"HKS1", wire[5])
    assert bound == H("halfkey/passkey/v1/record", header, *context)
    return record, clear, inside


def check_passkey():
    vectors = json.loads((HERE / "passkey.json").read_text())
    keeper, context_keys = vectors["keeper"], (1, 2, 3)
    for v in vectors["stanzas"]:
        salt = bytes.fromhex(v["prf_salt"])
        assert sha256(b"halfkey/prf/v1" + salt).hex() == v["prf_input"]
        known = [(bytes.fromhex(c["id"]), c) for c in v["credentials"]]
        for credential, c in known:
            record, clear, inside = stanza_open(v, keeper, bytes.fromhex(v["stanza"]), credential, bytes.fromhex(c["prf_output"]))
            assert record.hex() == v["record"]
            want = {1: 1, 2: MODES[v["mode"]], 3: v["rp_id"], 4: [{1: i, 2: c["transports"]} for i, c in known]}
            if v["mode"] != "prf":
                want[5] = v["key_id"]
                want_inside = {1: 1, 2: inside[2], 3: dict(zip(context_keys, context_of(v))), 4: MODES[v["mode"]], 5: v["rp_id"],
                               6: v["origins"], 7: [{1: i, 2: bytes.fromhex(c["cose_key"]), 3: int(c["backup_eligible"])} for i, c in known]}
                assert inside == want_inside
            if v["mode"] != "keeper":
                want[6] = salt
            assert clear == want
        for _, c in known:
            uncbor(bytes.fromhex(c["cose_key"]))
    for v in vectors["releases"]:
        frame = uncbor(bytes.fromhex(v["request"]))
        assert frame[1] == 1 and frame[2][0] == 3
        key_id, stanza, sealed = frame[2][1]
        assert key_id == v["key_id"] and stanza.hex() == vectors["stanzas"][0]["stanza"]
        body, answer_key = hpke_open_raw(keeper, sealed, b"halfkey/keeper/v1/release", key_id.to_bytes(4, "big"))
        fields = [bytes.fromhex(v[k]) for k in ("credential_id", "authenticator_data", "client_data_json", "signature")]
        context = context_of(v)
        assert uncbor(body) == {1: 1, 2: v["op"], 3: dict(zip(context_keys, context)), **dict(zip((4, 5, 6, 7), fields))}
        signed = H("halfkey/keeper/v1/challenge", bytes([v["op"]]), sha256(sealed[1:33]), sha256(stanza), *context)
        assert signed.hex() == v["challenge"]
        answer = uncbor(bytes.fromhex(v["answer"]))
        assert answer[2][0] == 3
        label, part = unseal(answer_key, b"HKA1", answer[2][1][0])
        assert label == b"halfkey/keeper/v1/answer"
        inside = stanza_open(vectors["stanzas"][0], keeper, stanza, b"", b"")[2]
        assert part == inside[2]
    print("passkey.json: every known answer holds")


# docs/formats.md, "Record in the user's cloud"
def check_cloud():
    for v in json.loads((HERE / "cloud.json").read_text())["records"]:
        deployment, client, backup = (raw(v[k]) for k in ("deployment", "client", "backup"))
        sub = lambda secret, info: expand(extract(b"", secret), info)
        pepper = sub(bytes.fromhex(v["pepper_root"]), H("halfkey/cloud/v1/pepper", client))
        assert pepper.hex() == v["pepper"]
        mac = lambda use, message: hmac.new(sub(pepper, b"halfkey/cloud/v1/" + use), message, hashlib.sha256).hexdigest()
        assert v["name"] == "halfkey-%d-%s" % (v["root"], mac(b"name", backup))
        assert v["account_tag"] == mac(b"account", v["account"].encode())
        header, record = unseal(sub(pepper, b"halfkey/cloud/v1/key"), b"HKL1", bytes.fromhex(v["sealed"]))
        place = H("halfkey/cloud/v1/record", v["root"].to_bytes(4, "big"), deployment, client, backup, v["method"].encode())
        assert header == cbor({1: 1, 2: v["root"], 3: place})
        assert record.hex() == v["record"] and uncbor(record)[4] == backup
    print("cloud.json: every known answer holds")


# docs/formats.md, "A part of a set" and "Record in the user's cloud"
def check_all_of():
    v = json.loads((HERE / "all_of.json").read_text())
    deployment, client, backup = (raw(v[k]) for k in ("deployment", "client", "backup"))
    assert v["method"] == "ALL_OF(" + ",".join(v["members"]) + ")" and v["members"] == sorted(v["members"])
    envelope, material, sets = bytes.fromhex(v["envelope"]), b"", set()
    for index, text in enumerate(v["parts"], 1):
        record = uncbor(bytes.fromhex(text))
        assert sorted(record) == [1, 2, 3, 4, 5, 7, 8, 9] and record[1] == 1
        assert [record[2], record[3], record[4], record[5]] == [deployment, client, backup, v["method"]]
        assert record[7] == sha256(envelope) == bytes.fromhex(v["envelope_digest"])
        part = uncbor(record[9])
        assert [part[1], part[3], part[4], len(part[2]), len(part[5])] == [1, index, len(v["members"]), 32, 32]
        material, sets = material + part[5], sets | {part[2]}
    (salt,) = sets
    key = extract(salt, material)
    assert key.hex() == v["file_key"]
    header, _ = unseal(key, b"HKE1", envelope)
    assert uncbor(header)[7] == v["method"]

    sub = lambda secret, info: expand(extract(b"", secret), info)
    pepper, member = bytes.fromhex(v["pepper"]), b"GDRIVE"
    name = hmac.new(sub(pepper, b"halfkey/cloud/v1/name"), backup + member, hashlib.sha256).hexdigest()
    assert v["cloud_name"] == f"halfkey-{v['root']}-{name}"
    header, record = unseal(sub(pepper, b"halfkey/cloud/v1/key"), b"HKL1", bytes.fromhex(v["cloud_sealed"]))
    place = H("halfkey/cloud/v1/record", v["root"].to_bytes(4, "big"), deployment, client, backup, v["method"].encode(), member)
    assert uncbor(header) == {1: 1, 2: v["root"], 3: place}
    assert record.hex() == v["parts"][v["members"].index("GDRIVE")]
    print("all_of.json: every known answer holds")


def two_keys():
    """Chooses one ciphertext block so that Poly1305 gives the same tag under both keys."""
    magic, header, salt = b"TST1", b"two keys", bytes([0x33]) * 32
    key, second = bytes([0x44]) * 32, bytes([0x55]) * 32
    head = magic + len(header).to_bytes(2, "big") + header
    k1, commitment = derive(key, salt, head)
    k2, _ = derive(second, salt, head)
    aad, nonce = head + salt + commitment, bytes(12)
    (r1, s1), (r2, s2) = poly_key(k1, nonce), poly_key(k2, nonce)
    for trial in range(2**16):
        free = trial.to_bytes(16, "little")
        blocks = poly_blocks(aad, free + bytes(16))
        a1, a2 = poly(r1, blocks), poly(r2, blocks)
        inverse = pow(r1**2 - r2**2, -1, P)
        for carry in range(-4, 5):  # both sums are compared modulo 2^128, the polynomials live modulo 2^130 - 5
            c = (a2 + s2 - a1 - s1 + carry * 2**128) * inverse % P
            if c >= 2**128:
                continue
            ct = free + c.to_bytes(16, "little")
            tag = aead_tag(k1, nonce, aad, ct)
            if tag == aead_tag(k2, nonce, aad, ct):
                sealed = aad + ct + tag
                print(json.dumps({"magic": magic.hex(), "header": header.hex(), "key": key.hex(),
                                  "second_key": second.hex(), "sealed": sealed.hex()}, indent=2))
                return
    sys.exit("no collision found")


two_keys() if sys.argv[1:] == ["two-keys"] else (check(), check_passkey(), check_cloud(), check_all_of())
