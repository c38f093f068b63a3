/** Basket and details page: only the countdown is alive. */
import { startCountdown } from "./countdown.js";

startCountdown();
