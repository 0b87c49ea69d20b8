"use strict";
// The token stands behind the `#`: no server on the way, no log and no mail scanner that fetches the link sees it, and
// nothing happens before a person presses the button.
const button = document.getElementById("cancel");
const say = (id, text) => { document.getElementById(id).textContent = text; };
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
if (/^[0-9a-f]{64}$/.test(token)) {
  button.disabled = false;
} else {
  say("error", "This link is not whole. Open it from the message again.");
}
button.addEventListener("click", async () => {
  button.disabled = true;
  say("error", "");
  try {
    const answer = await fetch(location.pathname, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token }),
    });
    const body = await answer.json();
    if (answer.ok && body.held) {
      say("status", "The recovery is held. The operator decides whether it goes on.");
    } else if (answer.ok) {
      say("status", "The recovery is cancelled.");
    } else if (answer.status === 409) {
      say("error", "It is too late: this recovery is over, or the operator has let it go on.");
    } else {
      say("error", "This link opens nothing any more.");
    }
  } catch {
    button.disabled = false;
    say("error", "No answer. Try again.");
  }
});
