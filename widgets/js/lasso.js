// The line that is drawn around images to select them, in pixels.
export class Lasso {
  constructor() {
    this.points = [];
  }

  begin(point) {
    this.points = [point];
  }

  add(point) {
    this.points.push(point);
  }

  clear() {
    this.points = [];
  }

  // Whether a point is inside, by the number of times that a ray from it crosses the line.
  holds([x, y]) {
    let inside = false;
    const { points } = this;
    for (let i = 0, j = points.length - 1; i < points.length; j = i, i += 1) {
      const [[x1, y1], [x2, y2]] = [points[i], points[j]];
      if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
    }
    return inside;
  }

  draw(context, colour) {
    if (this.points.length < 2) return;
    context.beginPath();
    for (const [x, y] of this.points) context.lineTo(x, y);
    context.closePath();
    context.setLineDash([5, 4]);
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.12;
    context.fillStyle = colour;
    context.fill();
    context.globalAlpha = 1;
  }
}
