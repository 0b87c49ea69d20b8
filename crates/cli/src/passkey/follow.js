'use strict';
// Asks the command whether there is another request, until there is one or the command has ended.
const what = document.getElementById('what');
const ask = async () => {
  try {
    const answer = await fetch(`/next/${what.dataset.token}`, { cache: 'no-store' });
    if (answer.status === 200) return location.replace(await answer.text());
    if (answer.status === 204) return setTimeout(ask, 500);
  } catch { /* the command has ended */ }
  what.textContent = 'Done. You can close this window.';
};
ask();
