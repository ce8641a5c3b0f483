import { expect, it } from 'vitest';
import { namesGiven, namesTaken } from './names.ts';
import { kitFolder, readKit } from './template.ts';

it('finds what is taken from one file, under its name there', () => {
  const source = `/** import { example } from './a.ts'; */
import { one, type Two, three as drei } from './a.ts';
import {
  four,
} from './a.ts';
import type { Five } from './a.ts';
import whole, { six } from './a.ts';
export { seven as sieben } from './a.ts';
import { other } from './b.ts';
`;
  expect(namesTaken(source, './a.ts')).toEqual([...['one', 'Two', 'three', 'four', 'Five', 'six', 'seven']]);
  expect(namesTaken(source, './c.ts')).toEqual([]);
});

it('finds what a file exports by name, in whatever way', () => {
  const source = `
// export const inComment = 1;
export const one = 1
export   let $two;\r
export async function three() {}
export function* four() {}
export function *five() {}
export abstract class Six {}
export const enum Seven {}
export type Eight<T> = T;
export interface Nine {}
export { ten, eleven as elf, type Twelve };
export { thirteen } from "./elsewhere.ts"
export type { Fourteen } from './elsewhere.ts';
export * from './everything.ts';
export default 1;
const own = 1;
`;
  expect([...namesGiven(source)].sort()).toEqual(
    [
      ...['one', '$two', 'three', 'four', 'five', 'Six', 'Seven', 'Eight', 'Nine', 'ten', 'elf', 'Twelve'],
      ...['thirteen', 'Fourteen'],
    ].sort(),
  );
});

it('finds in our own catalogue what our own modules take from it', async () => {
  const { modules } = await readKit(kitFolder());
  const taken = new Set(modules.flatMap(({ text }) => namesTaken(text, './catalogue.ts')));
  expect([...taken]).toEqual(expect.arrayContaining(['RESERVED_FIRST_SEGMENTS', 'TTL', 'TypeName']));
  const given = namesGiven(modules.find(({ name }) => name === 'catalogue.ts')?.text ?? '');
  expect([...taken].filter((name) => !given.has(name))).toEqual([]);
});
