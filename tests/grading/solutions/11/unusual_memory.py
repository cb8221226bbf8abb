"""Right, and unlike the others: a W stands where the memory is full before an F, and between the I's once the F's are over."""


def place_w(rows):
    p, result = len(rows), []
    for row in rows:
        held, new, waiting = 0, [], []
        last = max(k for k, action in enumerate(row) if "F" in action)
        for k, action in enumerate(row):
            if "F" in action:
                if held == p:
                    new.append(waiting.pop(0))
                    held -= 1
                held += 1
            new.append(action)
            if "I" in action:
                waiting.append(action.replace("I", "W"))
                if k > last:
                    new.append(waiting.pop(0))
        result.append(new + waiting)
    return result
