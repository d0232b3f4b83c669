"""The SOAP interface of Pure360's PureResponse, as its clients know it (B18; seed facts B.b, B.c.3)."""
