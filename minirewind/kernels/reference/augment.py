def crop_flip_normalise(images, index, dy, dx, flip, pad, table):
    raise NotImplementedError
