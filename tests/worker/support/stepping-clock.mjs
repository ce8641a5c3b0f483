/** Loaded into a worker: each SIGUSR2 makes the wall clock step by a day, forwards, back, forwards, … */
const real = Date.now;
let offset = 0;
process.on('SIGUSR2', () => {
  offset = offset === 0 ? 86_400_000 : 0;
});
Date.now = () => real() + offset;
