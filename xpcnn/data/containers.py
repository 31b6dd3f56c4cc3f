def kind_of(content):
    head = bytes(content[:4])
    return (
        "tiff"
        if head in (b"II*\0", b"MM\0*")
        else "jpeg"
        if head[:2] == b"\xff\xd8"
        else "png"
        if head == b"\x89PNG"
        else "unknown"
    )
