/** Short messages at the bottom of the page: read out, and gone after a while unless something failed. */

/** How long a message stays that reports no failure. */
const STAYS_MS = 6000;
const MOST = 3;

/**
 * @param {string} text
 * @param {{ bad?: boolean }} [options]
 */
export function showMessage(text, { bad = false } = {}) {
  const place = document.getElementById('messages');
  if (place === null) return;
  for (const shown of [...place.children]) {
    if (shown.firstChild?.textContent === text || place.children.length >= MOST) shown.remove();
  }
  const message = document.createElement('div');
  message.className = bad ? 'message bad' : 'message';
  const words = document.createElement('span');
  words.textContent = text;
  const close = document.createElement('button');
  close.type = 'button';
  close.className = 'quiet';
  close.textContent = 'Close';
  close.addEventListener('click', () => message.remove());
  message.append(words, close);
  place.append(message);
  if (!bad) setTimeout(() => message.remove(), STAYS_MS);
}

/** @param {unknown} error what a request was rejected with */
export function showFailure(error) {
  showMessage(/** @type {Error} */ (error).message, { bad: true });
}
