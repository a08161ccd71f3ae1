// The worker of regex.js.

import {matching} from "./regex.js";

postMessage("ready");
onmessage = ({data}) => postMessage(matching(data));
