// What the console adds to pages that work without it. Each module minds one thing; pages are told apart by attributes,
// never by their address.
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
