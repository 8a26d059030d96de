/** What is shown above the whole page. */

/**
 * Opens a dialog above everything else; until it is closed, the page behind takes no input.
 *
 * It is put into the frontend's own root element. Below the widget it would vanish with it: the
 * canvas hides widgets that are out of view, as when the keyboard of a phone comes up, and takes
 * the wheel from what lies in a node.
 *
 * @param {HTMLElement} owner the widget that opens it
 * @param {HTMLDialogElement} dialog removed by whoever opened it
 */
export function showOver(owner, dialog) {
  let root = owner;
  while (root.parentElement && root.parentElement !== document.body) root = root.parentElement;
  root.append(dialog);
  dialog.showModal();
}
