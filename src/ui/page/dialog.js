/** Windows in front of the page. Escape and the close button leave them; the focus goes back to where it was. */
import { button, element, icon, uniqueId } from './elements.js';
import { inPageWords } from './option-words.js';

/**
 * @param {string} title
 * @param {Node[]} content
 * @param {boolean} narrow
 */
function openDialog(title, content, narrow) {
  const id = uniqueId('dialog');
  const dialog = element(
    'dialog',
    { 'aria-labelledby': id, class: narrow ? 'narrow' : undefined },
    element(
      'div',
      { class: 'title' },
      element('h2', { id }, title),
      button(icon('cross'), () => dialog.close(), { class: 'square quiet', 'aria-label': 'Close' }),
    ),
    ...content,
  );
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * @param {string} title
 * @param {Node[]} content
 * @param {{ narrow?: boolean }} [options]
 */
export function openView(title, content, { narrow = false } = {}) {
  const dialog = openDialog(title, [element('div', { class: 'body' }, ...content)], narrow);
  dialog.querySelector('button')?.focus();
  return dialog;
}

/**
 * A form whose data go to the server. It stays open with everything that was entered, and says why, when the server refuses.
 *
 * @param {object} form
 * @param {string} form.title
 * @param {string} form.submit the button's label
 * @param {Node[]} form.content
 * @param {() => Promise<unknown>} form.send
 * @param {boolean} [form.ready] whether it is fine as it is: the focus is then on the button
 * @param {boolean} [form.danger] whether something is lost for good
 * @param {string} [form.problem] why it was refused the last time
 */
export function openForm({
  title,
  submit,
  content,
  send,
  ready = false,
  danger = false,
  problem: before = '',
}) {
  const problem = element('p', { class: 'problem', role: 'alert' }, inPageWords(before));
  const go = element(
    'button',
    { type: 'submit', class: danger ? 'main danger' : 'main', autofocus: ready },
    submit,
  );
  const form = element(
    'form',
    {},
    element('div', { class: 'body' }, element('div', { class: 'fields' }, ...content), problem),
    element(
      'div',
      { class: 'buttons' },
      button('Cancel', () => dialog.close()),
      go,
    ),
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    problem.textContent = '';
    go.disabled = true;
    try {
      await send();
      dialog.close();
    } catch (error) {
      problem.textContent = /** @type {Error} */ (error).message;
      problem.scrollIntoView({ block: 'nearest' });
    } finally {
      go.disabled = false;
    }
  });
  // A field that is wrong may be in a group that is closed.
  form.addEventListener(
    'invalid',
    (event) => {
      const group = /** @type {Element} */ (event.target).closest('details');
      if (group) group.open = true;
    },
    true,
  );
  const dialog = openDialog(title, [form], true);
  const first = form.querySelector('input:not([type="hidden"]), select');
  if (!ready && first instanceof HTMLElement) first.focus();
  return dialog;
}

/**
 * A question before something that cannot be undone.
 *
 * @param {string} title
 * @param {string} submit
 * @param {string[]} sentences
 * @param {() => Promise<unknown>} send
 */
export function openQuestion(title, submit, sentences, send) {
  const content = sentences.map((sentence) => element('p', {}, sentence));
  return openForm({ title, submit, content, send, ready: true, danger: true });
}
