import { afterEach, expect, test, vi } from 'vitest';
import { ensureCommand, findCommand } from './system-packages.ts';

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

test('a command is found on the PATH, the first of several that is there', async () => {
  expect(await findCommand(['surely-not-installed', 'sh'])).toMatch(/\/sh$/);
  expect(await findCommand(['surely-not-installed'])).toBeUndefined();
  expect(await ensureCommand(['sh', 'surely-not-installed'], 'dash')).toMatch(/\/sh$/);
});

test('an ordinary user is told exactly what to run', async () => {
  // Being root is the one thing here that cannot be had otherwise.
  vi.spyOn(process, 'getuid').mockReturnValue(1000);
  const isDebian = (await findCommand(['apt-get'])) !== undefined;
  await expect(ensureCommand(['no-server', 'no-other-server'], 'no-package')).rejects.toMatchObject({
    code: 'PROGRAM_MISSING',
    message: expect.stringMatching(
      isDebian
        ? /^no-server or no-other-server is not installed\. Install it with: sudo apt-get update && sudo apt-get install -y no-package$/
        : /^no-server or no-other-server is not installed\. Install it with: .*no-package/,
    ),
  });
});
