#!/usr/bin/env python3
"""Checks password-door.json with an implementation that shares no code with the crate: docs/formats.md, Python's
standard library, and Argon2id from the `cryptography` package (44 or newer).

    python3 tests/vectors/password_door.py
"""
import hashlib
import hmac
import json
import pathlib
import struct
import unicodedata

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

HERE = pathlib.Path(__file__).parent
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def H(tag, *parts):
    body = bytes([len(tag)]) + tag.encode() + b"".join(struct.pack(">I", len(p)) + p for p in parts)
    return hashlib.sha256(body).digest()


def extract(salt, ikm):
    return hmac.new(salt, ikm, hashlib.sha256).digest()


def expand(prk, info):
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def sealed_open(magic, key, sealed):
    assert sealed[:4] == magic
    end = 6 + struct.unpack(">H", sealed[4:6])[0]
    salt, commitment, body = sealed[end:end + 32], sealed[end + 32:end + 64], sealed[end + 64:]
    hh, prk = hashlib.sha256(sealed[:end]).digest(), extract(salt, key)
    assert expand(prk, b"halfkey/envelope/v1/commit" + hh) == commitment
    return ChaCha20Poly1305(expand(prk, b"halfkey/envelope/v1/key" + hh)).decrypt(bytes(12), body, sealed[:end + 64])


# ristretto255 (RFC 9496)
def is_negative(x):
    return x % P & 1


def absolute(x):
    return P - x % P if is_negative(x) else x % P


def sqrt_ratio(u, v):
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    flipped = check == -u * SQRT_M1 % P
    if check == -u % P or flipped:
        r = r * SQRT_M1 % P
    return check in (u % P, -u % P), absolute(r)


INVSQRT_A_MINUS_D = sqrt_ratio(1, (-1 - D) % P)[1]
SQRT_AD_MINUS_ONE = 25063068953384623474111414158702152701244531502492656460079210482610430750235


def elligator(t):
    r = SQRT_M1 * t * t % P
    u = (r + 1) * (1 - D * D) % P
    v = (-1 - r * D) * (r + D) % P
    square, s = sqrt_ratio(u, v)
    if not square:
        s, c = -absolute(s * t) % P, r
    else:
        c = P - 1
    n = (c * (r - 1) * (D - 1) ** 2 - v) % P
    w0, w1, w2, w3 = 2 * s * v, n * SQRT_AD_MINUS_ONE, 1 - s * s, 1 + s * s
    return [x % P for x in (w0 * w3, w2 * w1, w1 * w3, w0 * w2)]


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0])
    c, d = 2 * D * p[3] * q[3], 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return [x % P for x in (e * f, g * h, f * g, e * h)]


def times(k, p):
    q = [0, 1, 1, 0]
    for bit in bin(k)[2:]:
        q = add(q, q)
        if bit == "1":
            q = add(q, p)
    return q


def encode(p):
    x, y, z, t = p
    u1, u2 = (z + y) * (z - y) % P, x * y % P
    _, inverse = sqrt_ratio(1, u1 * u2 * u2)
    d1, d2 = inverse * u1 % P, inverse * u2 % P
    z_inverse = d1 * d2 * t % P
    if is_negative(t * z_inverse):
        x, y, d = y * SQRT_M1 % P, x * SQRT_M1 % P, d1 * INVSQRT_A_MINUS_D % P
    else:
        d = d2
    if is_negative(x * z_inverse):
        y = -y
    return absolute(d * (z - y)).to_bytes(32, "little")


def expand_xmd(message, dst, length=64):
    dst += bytes([len(dst)])
    b0 = hashlib.sha512(bytes(128) + message + struct.pack(">H", length) + b"\0" + dst).digest()
    return hashlib.sha512(b0 + b"\x01" + dst).digest()


def evaluate(key, data):
    """RFC 9497, base mode."""
    u = expand_xmd(data, b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512")
    half = lambda b: (int.from_bytes(b, "little") & (2**255 - 1)) % P
    point = add(elligator(half(u[:32])), elligator(half(u[32:])))
    issued = encode(times(int.from_bytes(key, "little") % L, point))
    frame = lambda b: struct.pack(">H", len(b)) + b
    return hashlib.sha512(frame(data) + frame(issued) + b"Finalize").digest()


def normalise(mode, text):
    if mode == "pin":
        good = 0 < len(text) <= 32 and all(unicodedata.category(c) == "Nd" for c in text)
        return "".join(str(unicodedata.digit(c)) for c in text) if good else None
    if not text or any(unicodedata.category(c) in ("Cc", "Cn", "Cs", "Co") for c in text):
        return None
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    return unicodedata.normalize("NFC", spaced)


def main():
    assert evaluate(bytes.fromhex("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e"), b"\0").hex().startswith(
        "527759c3d9366f277d8c6020418d96bb"), "RFC 9497 A.1.1.1"
    vectors = json.loads((HERE / "password-door.json").read_text())
    for v in vectors["derivations"]:
        b = {k: bytes.fromhex(x) for k, x in v.items() if isinstance(x, str) and k != "mode"}
        memory, passes, lanes = v["kdf"]
        digest = H("halfkey/password/v1/context", b"\x01", b["deployment"], b["client"], b["backup"], b["ver"],
                   b"\x02" if v["mode"] == "pin" else b"\x01", struct.pack(">H", 1), struct.pack(">I", memory),
                   struct.pack(">I", passes), struct.pack(">I", lanes), b["keeper_id"])
        assert digest == b["context_digest"]
        text = normalise(v["mode"], b["password"].decode()).encode()
        stretched = Argon2id(salt=digest, length=64, iterations=passes, lanes=lanes, memory_cost=memory).derive(text)
        y = evaluate(b["oprf_key"], stretched[:32])
        prk = extract(digest, y + stretched[32:])
        assert expand(prk, b"halfkey/password/v1/commit") == b["commitment"]
        assert expand(prk, b"halfkey/password/v1/unlock") == b["tag"]
        key = extract(b["keeper_part"], expand(prk, b"halfkey/password/v1/wrap"))
        assert sealed_open(b"HKP1", key, b["wrapped"]) == b["record"]
    for v in vectors["recovery_codes"]:
        symbols = v["shown"].replace("-", "")
        value = 0
        for symbol in symbols[:26]:
            value = value << 5 | ALPHABET.index(symbol)
        assert value & 3 == 0
        value >>= 2
        assert (ALPHABET + "*~$=U")[value % 37] == symbols[26]
        sealed = bytes.fromhex(v["sealed"])
        end = 6 + struct.unpack(">H", sealed[4:6])[0]
        key = extract(sealed[end - 32:end], value.to_bytes(16, "big"))
        assert sealed_open(b"HKR1", key, sealed) == bytes.fromhex(v["record"])
    for v in vectors["normalisation"]:
        found = normalise(v["mode"], bytes.fromhex(v["input"]).decode())
        assert (found.encode().hex() if found is not None else None) == v["normalised"], v
    print("password-door.json: all known answers hold")


main()
