/** Messages of mapram name options of the command line; on the page these are boxes and fields. */

/** @type {Record<string, string>} */
const LABELS = {
  '--force': 'Replace an existing file',
  '--trust': 'Trust this command line',
  '--allow-changed-disks': 'Allow changed disks',
  '--allow-cpu-mismatch': 'Allow another CPU',
  '--check-memory': 'Check the loaded memory',
  '--then stop': 'Afterwards: paused',
  '--then quit': 'Afterwards: ended',
  '--then cont': 'Afterwards: running',
  '--direct-io': 'Direct I/O',
  '--channels': 'Channels',
  '--method': 'Method',
  '--live': 'While saving: runs',
  '--background': 'While saving: background',
  '--no-multifd': 'One connection',
  '--no-checksums': 'Checksums',
  '--require-signature': 'Required signature',
  '--sign': 'Signing key',
  '--qmp': 'Monitor socket',
  '--verify': 'Verify',
  '--cont': 'Let it run',
  '--paused': 'Leave it paused',
};

/** @param {string} message */
export function inPageWords(message) {
  return message.replaceAll(/--(?:then (?:stop|quit|cont)|[a-z][a-z-]*[a-z])/g, (option) =>
    LABELS[option] === undefined ? option : `“${LABELS[option]}”`,
  );
}
