// ------------------------------------------------------------------------------------------- upload

async function take(file) {
  if (!file) return;
  element.classList.add('up-waiting');
  say('Uploading…');
  try {
    const { path } = await upload(file);
    trigger('opened', { path });
    say('Reading…');
  } catch (error) {
    element.classList.remove('up-waiting');
    say('The upload failed; the file may be too large.', true);
  }
}

for (const input of element.querySelectorAll('input[type="file"]')) {
  input.addEventListener('change', () => {
    take(input.files[0]);
    input.value = ''; // so that the same file can be chosen again
  });
}
element.addEventListener('dragover', (event) => {
  event.preventDefault();
  element.classList.add('up-dragging');
});
element.addEventListener('dragleave', () => element.classList.remove('up-dragging'));
element.addEventListener('drop', (event) => {
  event.preventDefault();
  element.classList.remove('up-dragging');
  take(event.dataTransfer.files[0]);
});
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files].find((f) => /^(image|video)\//.test(f.type));
  if (!file) return;
  event.preventDefault();
  take(file);
});
