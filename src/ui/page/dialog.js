/** Windows in front of the page. Escape and the close button leave them; the focus goes back to where it was. */
import { button, element, uniqueId } from './elements.js';

/**
 * @param {string} title
 * @param {Node[]} content
 * @param {{ narrow?: boolean, onClose?: () => void }} [options]
 */
function openDialog(title, content, { narrow = false, onClose = () => {} } = {}) {
  const id = uniqueId('dialog');
  const dialog = element(
    'dialog',
    { 'aria-labelledby': id, class: narrow ? 'narrow' : undefined },
    element('h2', { id }, title),
    ...content,
  );
  dialog.addEventListener('close', () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * @param {string} title
 * @param {Node[]} content
 * @param {{ onClose?: () => void }} [options]
 */
export function openView(title, content, options = {}) {
  const close = button('Close', () => dialog.close());
  const dialog = openDialog(title, [...content, element('div', { class: 'buttons' }, close)], options);
  return dialog;
}

/**
 * A form whose data go to the server. It stays open, and says why, when the server refuses.
 *
 * @param {object} form
 * @param {string} form.title
 * @param {string} form.submit the button's label
 * @param {Node[]} form.content
 * @param {() => Promise<unknown>} form.send
 * @param {boolean} [form.ready] whether it is fine as it is: the focus is then on the button
 */
export function openForm({ title, submit, content, send, ready = false }) {
  const problem = element('p', { class: 'bad', role: 'alert' });
  const go = element('button', { type: 'submit', class: 'main', autofocus: ready }, submit);
  const form = element(
    'form',
    {},
    element('div', { class: 'fields' }, ...content),
    problem,
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
      problem.textContent = `✗ ${/** @type {Error} */ (error).message}`;
    } finally {
      go.disabled = false;
    }
  });
  const dialog = openDialog(title, [form], { narrow: true });
  return dialog;
}
