"""The two descriptions of the service that clients are generated from: RPC/encoded and RPC/literal."""

from __future__ import annotations

from typing import Literal
from xml.sax.saxutils import quoteattr

from espial.soap.envelope import PAINT, TYPES

Use = Literal["encoded", "literal"]

_APACHE = "http://xml.apache.org/xml-soap"

_TYPES: dict[Use, str] = {
    "encoded": f"""<xsd:schema targetNamespace="{_APACHE}">
   <xsd:complexType name="mapItem"><xsd:sequence>
    <xsd:element name="key" nillable="true" type="xsd:anyType"/>
    <xsd:element name="value" nillable="true" type="xsd:anyType"/>
   </xsd:sequence></xsd:complexType>
   <xsd:complexType name="Map"><xsd:sequence>
    <xsd:element name="item" minOccurs="0" maxOccurs="unbounded" type="m:mapItem"/>
   </xsd:sequence></xsd:complexType>
  </xsd:schema>""",
    "literal": f"""<xsd:schema targetNamespace="{TYPES}" elementFormDefault="qualified">
   <xsd:complexType name="paintArray"><xsd:sequence>
    <xsd:element name="pairs" minOccurs="0" maxOccurs="unbounded" type="t:paintKeyValuePair"/>
   </xsd:sequence></xsd:complexType>
   <xsd:complexType name="paintKeyValuePair"><xsd:sequence>
    <xsd:element name="key" type="xsd:string"/>
    <xsd:element name="value" type="t:paintValue"/>
   </xsd:sequence></xsd:complexType>
   <xsd:complexType name="paintValue"><xsd:sequence>
    <xsd:element name="str" minOccurs="0" type="xsd:string"/>
    <xsd:element name="arr" minOccurs="0" type="t:paintArray"/>
   </xsd:sequence></xsd:complexType>
  </xsd:schema>""",
}
_ARRAY: dict[Use, str] = {"encoded": "m:Map", "literal": "t:paintArray"}
_STYLE: dict[Use, str] = {"encoded": ' encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"', "literal": ""}


def wsdl(use: Use, address: str) -> str:
    """The WSDL 1.1 document of the service at that address."""
    array = _ARRAY[use]
    body = f'<soap:body use="{use}" namespace="{PAINT}"{_STYLE[use]}/>'
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<definitions name="paint" targetNamespace="{PAINT}" xmlns="http://schemas.xmlsoap.org/wsdl/"
  xmlns:soap="http://schemas.xmlsoap.org/wsdl/soap/" xmlns:xsd="http://www.w3.org/2001/XMLSchema"
  xmlns:m="{_APACHE}" xmlns:t="{TYPES}" xmlns:p="{PAINT}">
 <types>
  {_TYPES[use]}
 </types>
 <message name="paintRequest">
  <part name="contextId" type="xsd:string"/>
  <part name="className" type="xsd:string"/>
  <part name="processName" type="xsd:string"/>
  <part name="entityData" type="{array}"/>
  <part name="processData" type="{array}"/>
 </message>
 <message name="paintResponse">
  <part name="Result" type="{array}"/>
 </message>
 <portType name="paintPortType">
  <operation name="handleRequest">
   <input message="p:paintRequest"/>
   <output message="p:paintResponse"/>
  </operation>
 </portType>
 <binding name="paintBinding" type="p:paintPortType">
  <soap:binding style="rpc" transport="http://schemas.xmlsoap.org/soap/http"/>
  <operation name="handleRequest">
   <soap:operation soapAction="{PAINT}#handleRequest"/>
   <input>{body}</input>
   <output>{body}</output>
  </operation>
 </binding>
 <service name="paintService">
  <port name="paintPort" binding="p:paintBinding"><soap:address location={quoteattr(address)}/></port>
 </service>
</definitions>
"""
