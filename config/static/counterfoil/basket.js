/** Basket and details page: the countdown is alive, and what was held is looked for once it has ended. */
import { startCountdown } from "./countdown.js";
import { tellWhetherStillThere } from "./still-there.js";

tellWhetherStillThere();
startCountdown();
