// What index.js starts once the files of the page are here.

import {openPage} from "./page.js";

openPage();
