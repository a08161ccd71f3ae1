// The filter of runs is a regular expression that somebody typed or found in a link. Some expressions take
// longer than the universe is old on some names, so they are tried in a worker that can be stopped.

export const DEADLINE_MS = 200;
const MAX_LENGTH = 500;

/** Which of the names the pattern finds: {names} or {error}. Must stand alone: reports send its source to a worker. */
export function matching({pattern, names}) {
  try {
    const expression = new RegExp(pattern);
    return {names: names.filter((name) => expression.test(name))};
  } catch (problem) {
    return {error: problem.message};
  }
}

function startWorker() {
  // TensorBoard's policy forbids workers from a blob, a page from a file forbids workers from a file.
  if (!window.__lbgap_report) return new Worker("./static/matcher.js", {type: "module"});
  const code = `postMessage("ready"); onmessage = ({data}) => postMessage((${matching})(data));`;
  return new Worker(URL.createObjectURL(new Blob([code], {type: "text/javascript"})));
}

/**
 * A function (pattern, names) -> promise of {names, message}. Where the pattern is no use, all names come
 * back with a message that says why.
 */
export function openMatcher() {
  let worker = null;
  let queue = Promise.resolve(); // one question at a time: an answer does not say what it answers
  const start = () => {
    const fresh = startWorker();
    const ready = new Promise((resolve, reject) => {
      fresh.onmessage = resolve;
      fresh.onerror = () => reject(new Error("The matcher did not start"));
    });
    return {fresh, ready};
  };

  const match = async (pattern, names) => {
    worker = worker || start();
    try {
      await worker.ready; // the deadline is for the matching, not for starting the worker
      const answer = await ask(worker.fresh, {pattern, names});
      if (answer.error) return {names, message: `${answer.error}. All runs are shown.`};
      return {names: answer.names, message: answer.names.length ? "" : "No run matches."};
    } catch (problem) {
      worker.fresh.terminate();
      worker = null;
      return {names, message: `${problem.message}. All runs are shown.`};
    }
  };

  return (pattern, names) => {
    if (!pattern) return Promise.resolve({names, message: ""});
    if (pattern.length > MAX_LENGTH) {
      return Promise.resolve({names, message: `Longer than ${MAX_LENGTH} characters. All runs are shown.`});
    }
    queue = queue.then(() => match(pattern, names));
    return queue;
  };
}

function ask(worker, question) {
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error(`Stopped: matching took longer than ${DEADLINE_MS} ms`));
    // When the page itself was busy, answer and alarm wait together: let the answer pass first.
    const alarm = setTimeout(() => setTimeout(late, 30), DEADLINE_MS);
    worker.onmessage = ({data}) => {
      clearTimeout(alarm);
      resolve(data);
    };
    worker.postMessage(question);
  });
}
