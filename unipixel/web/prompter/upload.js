// ------------------------------------------------------------------------------------------- upload

// Files join the dialogue, or start a new one (`anew`).
async function take(files, anew = false) {
  if (!files.length) return;
  if (!anew && album().length + files.length > MAX_MEDIA) {
    say(`A dialogue holds at most ${MAX_MEDIA} pictures and videos; remove one first.`, true);
    return;
  }
  element.classList.add('up-waiting');
  say('Uploading…');
  try {
    const arrived = [];
    for (const file of files) arrived.push({ path: (await upload(file)).path });
    if (anew) trigger('opened', arrived[0]);
    else trigger('added', { files: arrived });
    say('Reading…');
  } catch (error) {
    element.classList.remove('up-waiting');
    say('The upload failed; the file may be too large.', true);
  }
}

for (const input of element.querySelectorAll('input[type="file"]')) {
  input.addEventListener('change', () => {
    take([...input.files], input.closest('.up-replace') !== null);
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
  take([...event.dataTransfer.files]);
});
document.addEventListener('paste', (event) => {
  const files = [...event.clipboardData.files].filter((f) => /^(image|video)\//.test(f.type));
  if (!files.length) return;
  event.preventDefault();
  take(files);
});
