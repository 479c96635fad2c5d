// Starts the scripts of the console. Every page also works without them. The scripts find their elements by data
// attributes, never by the URL of the page.
import { followDialogs } from "./dialog.js";
import { followForms } from "./forms.js";
import { followLive } from "./live.js";
import { followTail } from "./tail.js";
import { followControls } from "./ui.js";

followDialogs();
followForms();
followLive();
followTail();
followControls();
