// Seconds that an item was on the screen: time while the page is hidden does not count.

export class VisibleClock {
  private before = 0;
  private since: number | null = null;

  constructor(private readonly now: () => number) {}

  /** Begin at zero, running if the page is visible. */
  restart(visible: boolean): void {
    this.before = 0;
    this.since = visible ? this.now() : null;
  }

  /** The page was hidden or shown. */
  show(visible: boolean): void {
    if (visible) this.since ??= this.now();
    else if (this.since !== null) {
      this.before += this.now() - this.since;
      this.since = null;
    }
  }

  seconds(): number {
    const running = this.since === null ? 0 : this.now() - this.since;
    return Math.round(this.before + running) / 1000;
  }
}
