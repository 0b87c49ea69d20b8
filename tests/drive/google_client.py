"""Google's own Python client, built from the discovery document that it ships, against the emulator.

Reads one JSON object from standard input: rootUrl, and access tokens (main, full, revoked, unscoped, visible). Prints one
JSON object of what the client saw; the test compares every value of it. The JavaScript client does the same.
"""

import hashlib
import importlib.resources
import json
import sys

import google_auth_httplib2
import httplib2
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaInMemoryUpload

GIVEN = json.load(sys.stdin)
EVERY = bytes(range(256))
# Contents that a careless parser of multipart bodies cuts or changes.
CONTENTS = [EVERY, EVERY * 40, b"\r", b"\n", b"ends with\r\n", b"--=", b"x"]


def service(token):
    shipped = importlib.resources.files("googleapiclient") / "discovery_cache/documents/drive.v3.json"
    document = json.loads(shipped.read_text())
    document["rootUrl"] = GIVEN["rootUrl"]
    # Loopback: no proxy. And no refresh: this client has an access token only, and shows what it is answered.
    plain = httplib2.Http(proxy_info=None)
    http = google_auth_httplib2.AuthorizedHttp(Credentials(token=token), http=plain, refresh_status_codes=())
    return build_from_document(document, http=http)


def refusal(request, **how):
    try:
        request.execute(**how)
    except HttpError as error:
        detail = json.loads(error.content)["error"]["errors"][0]
        return {"status": error.resp.status, "reason": detail["reason"], "domain": detail["domain"]}
    return None


def upload(content):
    return MediaInMemoryUpload(content, mimetype="application/octet-stream", resumable=False)


def body(name, given=None):
    metadata = {"name": name, "parents": ["appDataFolder"]}
    return metadata if given is None else metadata | {"id": given}


def fail(calls, answer, **more):
    command = {"op": "fail", "calls": calls, "answer": answer, "times": 1} | more
    answer, _ = httplib2.Http(proxy_info=None).request(GIVEN["rootUrl"] + "emulator", "POST", json.dumps(command))
    assert answer.status == 200, answer


def names(files, **how):
    pages, request = [], files.list(spaces="appDataFolder", fields="*", **how)
    while request is not None:
        page = request.execute()
        pages.append([file["name"] for file in page["files"]])
        assert page["incompleteSearch"] is False
        request = files.list_next(request, page)
    return pages


def main():
    drive = service(GIVEN["main"])
    files = drive.files()
    seen = {"email": drive.about().get(fields="user(emailAddress)").execute()["user"]["emailAddress"]}

    generated = files.generateIds(space="appDataFolder", count=len(CONTENTS)).execute()
    ids = generated["ids"]
    seen["generated"] = [generated["space"], len(set(ids))]
    made = [files.create(body=body(f"n{at}", ids[at]), media_body=upload(CONTENTS[at])).execute() for at in range(len(ids))]
    seen["made"] = [[file["id"] == ids[at], file["name"], file["mimeType"]] for at, file in enumerate(made)]
    seen["intact"] = [files.get_media(fileId=ids[at]).execute() == CONTENTS[at] for at in range(len(ids))]
    metadata = files.get(fileId=ids[0], fields="size,sha256Checksum,parents,trashed").execute()
    metadata["sha256Checksum"] = metadata["sha256Checksum"] == hashlib.sha256(EVERY).hexdigest()
    seen["metadata"] = metadata
    seen["sameIdAgain"] = refusal(files.create(body=body("other", ids[0]), media_body=upload(b"other")))
    seen["inventedId"] = refusal(files.create(body=body("other", "1invented"), media_body=upload(b"other")))
    seen["stillIntact"] = files.get_media(fileId=ids[0]).execute() == EVERY

    seen["pages"] = names(files, pageSize=3)
    seen["found"] = names(files, q="name = 'n2' and trashed = false")
    seen["otherSpace"] = refusal(files.list())
    seen["visible"] = service(GIVEN["visible"]).files().list().execute()["files"]

    changed = files.update(fileId=ids[1], media_body=upload(EVERY[::-1])).execute()
    seen["changed"] = [changed["name"], files.get_media(fileId=ids[1]).execute() == EVERY[::-1]]
    seen["renamed"] = files.update(fileId=ids[1], body={"name": "renamed"}).execute()["name"]
    seen["toTheBin"] = refusal(files.update(fileId=ids[1], body={"trashed": True}))

    seen["deleted"] = files.delete(fileId=ids[0]).execute() in ("", None)
    seen["readDeleted"] = refusal(files.get_media(fileId=ids[0]))
    seen["deletedAgain"] = refusal(files.delete(fileId=ids[0]))

    seen["revoked"] = refusal(service(GIVEN["revoked"]).files().list(spaces="appDataFolder"))
    seen["unscoped"] = refusal(service(GIVEN["unscoped"]).files().list(spaces="appDataFolder"))
    seen["full"] = refusal(service(GIVEN["full"]).files().create(body=body("big"), media_body=upload(EVERY)))

    # Google's client itself takes these for errors that pass, and only because of their bodies.
    retried = []
    for answer in ["tooManyRequests", "userRateLimitExceeded", "rateLimitExceeded", "backendError", "internalError"]:
        fail("metadata", answer, retryAfter=1)
        request, waits = files.get(fileId=ids[2]), []
        request._sleep = waits.append
        retried.append([answer, request.execute(num_retries=1)["name"], len(waits)])
    seen["retried"] = retried
    fail("metadata", "dailyLimitExceeded")
    seen["notRetried"] = refusal(files.get(fileId=ids[2]), num_retries=1)
    print(json.dumps(seen))


main()
